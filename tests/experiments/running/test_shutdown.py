"""A stop that is asked for is quick, keeps what was done, and leaves no process behind."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.benchmark import main as benchmark
from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from experiments.running.interruption import Interrupted, interrupt_at_once, stop_on_request
from tests.experiments.processes import recorded, start, wait_until, workers_of

LIMIT_S = 5
# Python and PyTorch take a moment to leave, longer on a busy machine.
PROCESS_LIMIT_S = LIMIT_S + 5
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs the signals of POSIX")


@contextmanager
def signalled(number: int, when: Callable[[], bool]) -> Iterator[list[float]]:
    """Send a signal to this process as soon as `when` is true in the block; yields a list that gets the time of it.

    A signal that nobody waits for fails the test: by itself it would end the process, and all other tests with it.
    """
    sent: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not when():
            if over.wait(0.005):
                return
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    def nobody_waits(number: int, frame: object) -> None:
        pytest.fail(f"signal {number} came where nothing handles it")

    before = signal.signal(number, nobody_waits)
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield sent
    finally:
        over.set()
        watching.join()
        signal.signal(number, before)


@pytest.mark.parametrize("algo", ["reinforce", "ppo"])
def test_sigterm_ends_a_run_with_a_checkpoint_of_this_moment(tiny, tmp_path: Path, algo: str) -> None:
    arguments = tiny(tmp_path, "--algo", algo, "--rounds", "200", "--agent-settings")
    arguments += ["n_steps=4", "batch_size=4"] if algo == "ppo" else ["horizon=5"]
    with signalled(signal.SIGTERM, lambda: recorded(tmp_path) >= 13) as sent:
        assert main(arguments) == 130
    assert time.monotonic() - sent[0] < LIMIT_S
    run = RunDirectory(tmp_path)
    assert run.checkpoints()[-1] == run.checkpoint(recorded(tmp_path))
    assert recorded(tmp_path) < 30
    assert not run.partial_files()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_in_a_long_round_the_last_checkpoint_counts(
    tiny, tmp_path: Path, number: int, capsys: pytest.CaptureFixture
) -> None:
    arguments = tiny(tmp_path, "--rounds", "5", "--iterations", "2000", "--stage0-rounds", "0")

    def is_training() -> bool:
        return any(time.time() - path.stat().st_ctime > 0.5 for path in tmp_path.glob("events*"))

    with signalled(number, is_training) as sent:
        assert main(arguments) == 130
    assert time.monotonic() - sent[0] < LIMIT_S
    assert "stopped in the middle of a round" in capsys.readouterr().out
    assert not RunDirectory(tmp_path).rounds.path.exists()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


@pytest.mark.slow
def test_in_a_long_rollout_the_last_checkpoint_counts(finished, tiny, tmp_path: Path) -> None:
    cut = RunDirectory(tmp_path / "cut")
    more = ["--algo", "ppo", "--rounds", "24", "--agent-settings", "n_steps=12", "batch_size=12"]
    whole = finished(tmp_path / "whole", *more)
    # A second Ctrl-C does not wait for the end of the rollout.
    with (
        signalled(signal.SIGINT, lambda: recorded(cut.path) >= 15),
        signalled(signal.SIGINT, lambda: recorded(cut.path) >= 16),
    ):
        assert main(tiny(cut.path, *more)) == 130
    assert cut.checkpoints() == [cut.checkpoint(12)]
    assert 16 <= recorded(cut.path) < 24
    assert main(["--resume", str(cut.path)]) == 0
    assert cut.rounds.read() == whole.rounds.read()


@pytest.mark.slow
def test_a_stop_after_learning_keeps_what_was_learnt(finished, tiny, tmp_path: Path) -> None:
    more = ["--rounds", "6", "--details"]
    whole, cut = finished(tmp_path / "whole", *more), RunDirectory(tmp_path / "cut")
    with signalled(signal.SIGTERM, cut.learning.path.exists) as sent:
        assert main(tiny(cut.path, *more)) == 130
    assert time.monotonic() - sent[0] < LIMIT_S
    assert not cut.is_finished
    learnt = cut.learning.path.read_bytes()
    assert main(["--resume", str(cut.path)]) == 0
    assert cut.learning.path.read_bytes() == learnt
    assert cut.summary.read()["report"] == whole.summary.read()["report"]


def test_a_stop_during_the_set_up_leaves_nothing(tiny, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fresh, out = tmp_path / "cache", tmp_path / "out"
    with signalled(signal.SIGINT, lambda: any(fresh.rglob("*"))) as sent:
        assert main(tiny(out, "--cache-dir", str(fresh), "--stage0-rounds", "2000")) == 130
    assert time.monotonic() - sent[0] < LIMIT_S
    assert "nothing was written" in capsys.readouterr().out
    assert not out.exists()


@pytest.mark.slow
def test_the_inline_benchmark_stops_and_goes_on(cache: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    common = ["--preset", "tiny", "--cache-dir", cache, "--rounds", "12", "--seeds", "0-1", "--algos", "reinforce"]
    arguments = [*common, "--batch-size", "1", "--score-crops", "1", "--out", str(tmp_path)]
    with signalled(signal.SIGTERM, lambda: recorded(tmp_path) >= 15) as sent:
        assert benchmark(arguments) == 130
    assert time.monotonic() - sent[0] < LIMIT_S
    assert "the same command goes on" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("checkpoint-*.pt"))) >= 1
    assert not (tmp_path / "raw.csv").exists()
    assert benchmark(arguments) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers through /proc")
@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_the_workers_of_the_pool_end_with_their_driver(
    cache: str, tmp_path: Path, number: int, whole_group: bool
) -> None:
    arguments = ["--preset", "tiny", "--cache-dir", cache, "--out", str(tmp_path), "--executor", "pool"]
    arguments += ["--workers", "2", "--algos", "reinforce", "random", "--seeds", "0-3", "--rounds", "300"]
    driver = start("benchmark.py", arguments, start_new_session=True)
    wait_until(lambda: len(list(tmp_path.rglob("rounds.csv"))) == 2 and recorded(tmp_path) >= 25, driver)
    workers, runs = workers_of(driver.pid), len(list(tmp_path.rglob("config.json")))
    assert len(workers) == 2
    sent = time.monotonic()
    # A terminal sends Ctrl-C to the driver and its workers alike.
    (os.killpg if whole_group else os.kill)(driver.pid, number)
    try:
        printed, _ = driver.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(driver.pid, signal.SIGKILL)
        raise
    assert time.monotonic() - sent < PROCESS_LIMIT_S
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert driver.returncode == 130
    assert "the same command goes on" in printed
    assert "Traceback" not in printed
    assert "leaked" not in printed
    # Every run that had begun was saved at this moment, and no other one was begun.
    assert len(list(tmp_path.rglob("config.json"))) == runs == 2
    for table in tmp_path.rglob("rounds.csv"):
        run = RunDirectory(table.parent)
        assert run.checkpoints()[-1] == run.checkpoint(recorded(run.path))


@pytest.mark.slow
def test_a_block_that_does_not_look_is_cut_off() -> None:
    began = time.monotonic()

    def endless() -> None:
        with stop_on_request() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop
            while time.monotonic() < began + 10:
                pass

    with pytest.raises(Interrupted, match="middle of a round"):
        endless()
    assert 1 < time.monotonic() - began < LIMIT_S


def test_a_block_that_looks_is_left_alone_and_handlers_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    looked = []

    def look() -> None:
        with stop_on_request() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            looked.append(bool(stop))

    with interrupt_at_once():
        with pytest.raises(Interrupted, match="just when it had ended"):  # or what comes next would begin
            look()
        assert looked == [True]
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
    assert before == {number: signal.getsignal(number) for number in before}
    assert signal.alarm(0) == 0
