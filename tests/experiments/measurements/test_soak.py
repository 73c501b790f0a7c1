import dataclasses
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.measurements import soak as module
from experiments.measurements.soak import Reading, growth, main, soak
from fusion_env.errors import ConfigError

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
STEADY = [Reading(rounds, 800.0, 6, 3) for rounds in range(10, 210, 10)]


@pytest.fixture
def only_new_garbage() -> Iterator[None]:
    """Spare each of the twenty readings the search through all that other tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@needs_proc
@pytest.mark.slow
@pytest.mark.usefixtures("only_new_garbage")
def test_nothing_grows_in_a_hundred_rounds(capsys: pytest.CaptureFixture) -> None:
    assert main(["--rounds", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| 5 | ")
    assert lines[21].startswith("| 100 | ")
    assert "nothing grew" in lines[22]


@pytest.mark.slow
@needs_proc
@pytest.mark.usefixtures("only_new_garbage")
def test_a_leak_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    kept = []

    def leak(*args: object) -> bool:
        # Written to, and too large to fit into memory that other tests have freed.
        kept.append((b"x" * 40_000_000, open(__file__)))  # noqa: SIM115
        return False

    monkeypatch.setattr(module, "play_round", leak)
    try:
        assert main(["--rounds", "20"]) == 1
    finally:
        for _, file in kept:
            file.close()
    assert "memory grew from" in (printed := capsys.readouterr().out)
    assert "handles grew from" in printed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"memory_mb": 849.0}, []),
        ({"memory_mb": 850.0}, ["memory grew from 800 to 850 MB"]),
        ({"handles": 7, "threads": 4}, ["handles grew from 6 to 7", "threads grew from 3 to 4"]),
        ({"handles": 5}, []),
    ],
)
def test_growth_counts_after_the_warm_up(changes: dict[str, float], expected: list[str]) -> None:
    assert growth([*STEADY[:-1], dataclasses.replace(STEADY[-1], **changes)]) == expected
    # The first tenth may hold anything.
    assert growth([Reading(10, 100.0, 1, 1), *STEADY[1:]]) == []


def test_too_few_rounds() -> None:
    with pytest.raises(ConfigError, match="at least 20. Got 19"):
        soak(19)
