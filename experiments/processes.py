"""Processes that work for another one: how they begin and end, and what they do not share."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from tqdm import tqdm

from fusion_env.errors import ConfigError

__all__ = ["Workers", "end", "end_with_parent", "keep_progress_bars_apart", "stop_pool"]

Job = TypeVar("Job")
Result = TypeVar("Result")

# Seconds that a process may take that was asked to end; then it is killed.
_PATIENCE_S = 60


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
            stop_pool(self._pool)


def keep_progress_bars_apart() -> None:
    """Give the progress bars of this process a lock of its own.

    tqdm's own one is a semaphore that forked processes share: who is killed with it keeps all others waiting for ever.
    """
    tqdm.set_lock(threading.RLock())


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
    end(processes)


def end(processes: Iterable[BaseProcess]) -> None:
    """Wait for processes that were asked to end, a minute for each, and kill those that do not."""
    for process in processes:
        deadline = time.monotonic() + _PATIENCE_S
        # The sentinel alone stays open as long as processes do that it has forked.
        while process.is_alive() and time.monotonic() < deadline:
            wait([process.sentinel], 0.1)
        if process.is_alive():
            process.kill()
        process.join()
