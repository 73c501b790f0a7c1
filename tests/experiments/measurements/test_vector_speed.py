import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.measurements.vector_speed import WAYS, main, memory_mb

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")


def test_memory_is_that_of_the_process_and_all_below_it() -> None:
    script = "held = bytearray(b'x') * 60_000_000; print(len(held), flush=True); input()"
    before = memory_mb(os.getpid())
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert memory_mb(child.pid) > 60
        assert memory_mb(os.getpid()) > before + 50
        child.communicate(b"\n")


@pytest.mark.slow
def test_every_way_is_timed(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # one thread each: other tests use the cores, too
    assert main(["--presets", "tiny", "--students", "2", "--steps", "1"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    assert [row[2] for row in rows] == list(WAYS)
    assert all(float(cell.strip(" |")) > 0 for row in rows for cell in row[3:])
