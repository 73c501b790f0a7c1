"""Processes that tests start, watch and end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
_PATIENCE_S = 120


def start(script: str, arguments: list[str], **options: bool) -> "subprocess.Popen[str]":
    """Start a script with one thread for each process; what it prints is in `stdout`."""
    return subprocess.Popen(
        [sys.executable, str(EXPERIMENTS / script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    """Wait for something that a process is to do before it ends; if it does not, end it and fail with what it said."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = ""
            if process is not None:
                process.kill()
                said, _ = process.communicate(timeout=60)
            pytest.fail(f"{'ended' if ended else 'waited too long'} before it was so far. {said}")
        time.sleep(0.01)


def workers_of(pid: int) -> list[int]:
    """Return the process ids of the Python workers below a process (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def recorded(folder: Path) -> int:
    """Count the rounds on record in all runs below a folder."""
    return sum(max(path.read_text().count("\n") - 1, 0) for path in folder.rglob("rounds.csv"))
