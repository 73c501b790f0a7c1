"""Work in pieces: nothing twice, nothing of other settings, and a word on the time it takes."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.paper import ledger
from experiments.paper.ledger import MEMORY, Ledger, Piece, logged, work_through
from fusion_env.errors import ConfigError


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def pieces(done: list[str]) -> list[Piece]:
    def work(name: str) -> Callable[[], list[dict]]:
        def run() -> list[dict]:
            done.append(name)
            return [{"name": name, "value": len(name)}]

        return run

    return [Piece(name, work(name)) for name in ("a", "bb", "ccc")]


def rows(path: Path, pieces: list[Piece], settings: dict | None = None) -> list[dict]:
    return work_through(pieces, Ledger(path, settings or {"seed": 0}), say=lambda text: None)


def test_rows_in_order_and_nothing_twice(tmp_path: Path, pieces: list[Piece], done: list[str]) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    expected = [{"name": "a", "value": 1}, {"name": "bb", "value": 2}, {"name": "ccc", "value": 3}]
    assert rows(path, pieces[1:2]) == expected[1:2]
    assert rows(path, pieces) == expected
    assert rows(path, pieces) == expected
    assert done == ["bb", "a", "ccc"]


def test_a_line_that_was_cut_off_is_done_anew(tmp_path: Path, pieces: list[Piece], done: list[str]) -> None:
    path = tmp_path / "ledger.jsonl"
    expected = rows(path, pieces)
    path.write_text(path.read_text()[:-5])
    assert rows(path, pieces) == expected
    assert rows(path, pieces) == expected
    assert done == ["a", "bb", "ccc", "ccc"]


def test_other_settings_are_refused(tmp_path: Path, pieces: list[Piece]) -> None:
    path = tmp_path / "ledger.jsonl"
    rows(path, pieces)
    with pytest.raises(ConfigError, match=r"seed was 0, is 1\. Take another --out"):
        rows(path, pieces, {"seed": 1})


def test_a_damaged_ledger_is_named(tmp_path: Path, pieces: list[Piece]) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("no JSON\n")
    with pytest.raises(ConfigError, match=r"ledger\.jsonl is damaged"):
        rows(path, pieces)


def test_time_and_memory_are_told_once_the_first_piece_is_done(tmp_path: Path, pieces: list[Piece]) -> None:
    told: list[str] = []
    work_through(pieces, Ledger(tmp_path / "ledger.jsonl", {}), say=told.append)
    assert len(told) == 1
    assert "1 of 3 pieces" in told[0]
    assert "GiB" in told[0]


def test_the_memory_of_other_processes_is_counted(tmp_path: Path) -> None:
    told: list[str] = []
    pieces = [Piece(name, lambda: [{MEMORY: 1000.0}]) for name in ("a", "b")]
    work_through(pieces, Ledger(tmp_path / "ledger.jsonl", {}), say=told.append)
    assert re.search(r", 100\d\.\d GiB of memory", told[0])


def test_the_time_of_each_kind_of_work_is_told_by_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 2.0, 4.0, 4.0, 14.0, 14.0, 24.0])
    monkeypatch.setattr("experiments.paper.ledger.time.perf_counter", lambda: next(clock))
    told: list[str] = []
    pieces = [Piece(f"{kind} {number}", list, kind=kind) for kind in ("images", "detectors") for number in (1, 2)]
    work_through(pieces, Ledger(tmp_path / "ledger.jsonl", {}), say=told.append)
    assert [text.rpartition(",")[0] for text in told] == [
        "2 s for 1 of 4 pieces: 2 s to go, without 2 detectors, whose time is told after the first",
        "14 s for 3 of 4 pieces: 10 s to go",
    ]


def test_a_long_piece_tells_its_time_before_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_MINUTE", 0.02)
    log, told = tmp_path / "rounds.csv", list[str]()

    def work() -> list[dict]:
        time.sleep(0.05)  # no row yet: nothing can be said
        assert not told
        log.write_text("round\n0\n1\n")
        deadline = time.monotonic() + 5
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        return []

    pieces = [Piece("long", work, kind="runs", share=lambda: logged(log, 8)), Piece("next", list, kind="runs")]
    work_through([*pieces, Piece("other", list, kind="pictures")], Ledger(tmp_path / "ledger", {}), told.append)
    assert re.match(r"25% of the first of 3 pieces: about .* to go, without 1 pictures, .* GiB or more", told[0])
