import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from experiments.measurements import vector_speed
from experiments.measurements.vector_speed import WAYS, _seconds, main, memory_mb
from fusion_env.config import preset

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
def test_a_way_whose_process_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes below it live on, and keep its end of the pipe."""
    left: list[int] = []

    def seconds(process: BaseProcess, pipe: Connection) -> float:
        taken = _seconds(process, pipe)
        left.extend(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
        process.kill()
        return taken

    monkeypatch.setattr(vector_speed, "_seconds", seconds)
    monkeypatch.setattr(vector_speed, "WAYS", {"SubprocVecEnv": "one"})
    config = preset("tiny", student_init="random", stage0_rounds=0, cache_dir=str(tmp_path), rounds=100)
    try:
        with pytest.raises(RuntimeError, match="status -9"):
            vector_speed.measure(config, 2, 1, 1)
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert len(left) >= 2


@pytest.mark.slow
def test_every_way_is_timed(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})  # one thread each: other tests use the cores, too
    assert main(["--presets", "tiny", "--students", "2", "--steps", "1"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    assert [row[2] for row in rows] == list(WAYS)
    assert all(float(cell.strip(" |")) > 0 for row in rows for cell in row[3:])
