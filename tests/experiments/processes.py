"""Processes that tests start, watch and end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
    """Wait for something that a process is to do before it ends."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
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
