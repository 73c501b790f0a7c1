"""How processes that work for another one end, and what they do not share."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from tqdm import tqdm

__all__ = ["end", "end_with_parent", "keep_progress_bars_apart", "stop_pool"]

# Seconds that a process may take that was asked to end; then it is killed.
_PATIENCE_S = 60


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
