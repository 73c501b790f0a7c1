"""How processes that work for another one end."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

__all__ = ["end_with_parent", "stop_pool"]


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
