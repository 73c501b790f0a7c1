"""Runs on the preset `tiny`, for the tests of all that makes or reads runs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from experiments.running.rounds import RoundsFile


class Crash(BaseException):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Teacher targets and stage-0 students, made once for all tests of a process."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(cache: str) -> Callable[..., list[str]]:
    """Function: the command line of a tiny run into a directory, with more options.

    A round is as short as it can be: the tests here are about runs, whatever a round does.
    Control and pictures take longer than the run itself: tests that look at them say ``--details``.
    """

    def options(out: Path, *more: str) -> list[str]:
        common = ["--preset", "tiny", "--cache-dir", cache, "--threads", "1", "--no-details"]
        return [*common, "--batch-size", "1", "--score-crops", "1", "--out", str(out), *more]

    return options


@pytest.fixture(scope="session")
def finished(tiny: Callable[..., list[str]]) -> Callable[..., RunDirectory]:
    """Function: run an agent to its end."""

    def run(out: Path, *more: str) -> RunDirectory:
        assert main(tiny(out, *more)) == 0
        return RunDirectory(out)

    return run


@pytest.fixture(scope="session")
def across(finished: Callable[..., RunDirectory], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Two learning runs and one of the frozen agent, of three rounds each; only to be read."""
    out = tmp_path_factory.mktemp("run") / "across"
    return finished(out, "--protocol", "across", "--runs", "2", "--eval-runs", "1", "--rounds", "3", "--seed", "7")


@pytest.fixture
def copy(across: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of `across` to be changed."""
    return RunDirectory(Path(shutil.copytree(across.path, tmp_path / "copy")))


@pytest.fixture
def crashed(tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunDirectory]:
    """Function: run an agent up to the moment when the row of a round is written, and no further."""

    def run(rounds: int, out: Path, *more: str) -> RunDirectory:
        append, written = RoundsFile.append, []

        def break_off(self: RoundsFile, row: dict) -> None:
            append(self, row)
            written.append(row)
            if len(written) == rounds:
                raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(RoundsFile, "append", break_off)
            with pytest.raises(Crash):
                main(tiny(out, *more))
        return RunDirectory(out)

    return run
