"""Processes that work for another one, and how they end."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import TypeVar

from fusion_env.errors import ConfigError

__all__ = ["Workers", "end_with_parent", "stop_pool"]

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers:
    """Processes that work for this one; they end with the `with` block.

    Args:
        number: How many; 1 for this process itself.

    Raises:
        ConfigError: The number is below 1.
    """

    def __init__(self, number: int) -> None:
        if number < 1:
            raise ConfigError(f"workers must be at least 1. Got {number}")
        # Spawned, not forked: threads of PyTorch do not come along.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(number, context, initializer=end_with_parent) if number > 1 else None

    def results(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Yield what a function makes of each job, as soon as it is there."""
        if self._pool is None:
            yield from map(function, jobs)
            return
        futures = [self._pool.submit(function, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()

    def __enter__(self) -> "Workers":
        """Return the workers."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Let this process end when its parent does, however that ends; its last words go to nobody's directory."""
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


def stop_pool(pool: ProcessPoolExecutor) -> None:
    """End what still runs, and wait: a run's directory has one writer at a time."""
    processes = list(pool._processes.values())  # shutdown forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
