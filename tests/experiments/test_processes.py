"""How processes that work for another one end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from experiments.processes import stop_pool
from tests.experiments.processes import wait_until
from tests.processes import killed_after

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs the signals of POSIX")


DRIVER = """
import multiprocessing, time
from experiments.benchmarking.executors import _start_worker
context = multiprocessing.get_context("spawn")
slots = context.Queue()
worker = context.Process(target=_start_worker, args=(slots,))
worker.start()
while slots._rlock.acquire(block=False):  # until the worker has it, and waits
    slots._rlock.release()
    time.sleep(0.05)
print(worker.pid, flush=True)
worker.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the worker through /proc")
def test_a_worker_that_waits_for_its_slot_ends_with_its_driver() -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as driver:
        with killed_after(120, driver):
            worker = Path("/proc", driver.stdout.readline().strip())
        driver.kill()
    wait_until(lambda: not worker.exists())


def be_deaf(begun: Path) -> None:
    """Work on, whatever SIGTERM says."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begun.touch()
    time.sleep(30)


@pytest.mark.slow
def test_a_worker_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.processes._PATIENCE_S", 0.5)
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    pool.submit(be_deaf, tmp_path / "begun")
    wait_until((tmp_path / "begun").exists)
    (worker,) = pool._processes.values()
    asked = time.monotonic()
    stop_pool(pool)
    assert time.monotonic() - asked < 10
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
