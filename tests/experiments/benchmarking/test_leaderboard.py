"""Normalised scores of submissions, recomputed from their rows."""

import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from experiments.benchmarking.leaderboard import Headroom, boards, entries, leaderboard_tables, read_headroom
from experiments.benchmarking.submission import Submission, read_submission
from experiments.output import write_csv
from fusion_env import tasks
from fusion_env.errors import ConfigError
from fusion_env.task import task_identity
from tests.experiments.benchmarking.test_submission import ROUNDS, row, write

SEEDS = 6
HEADROOM = Headroom("planner", {(unit, 0): 0.2 + 0.01 * unit for unit in range(5)}, ROUNDS)


def submission(folder: Path, gains: dict[str, float], **changes: Any) -> Submission:
    """Make a submission of policies that gain so much over a control whose level the start decides."""
    rows = [row("guidance-only", seed, -0.3 + 0.1 * seed, **changes) for seed in range(SEEDS)]
    for policy, gain in gains.items():
        rows += [row(policy, seed, -0.3 + 0.1 * seed + gain * (1 + 0.1 * seed), **changes) for seed in range(SEEDS)]
    return read_submission(write(folder, rows))


def headroom_rows(kinds: dict[str, float], seeds: range = range(5)) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "name": kind,
            "seed": seed,
            "stage0_seed": seed,
            "data_seed": seed,
            "rounds": ROUNDS,
            "task": f"key{seed}",
            "best_reward_gap": -0.5 + gain,
            "best_report_gap": -0.5 + 0.1 * seed + gain * (1 + 0.01 * seed),
        }
        for kind, gain in kinds.items()
        for seed in seeds
    ]


def test_scores_are_paired_gains_as_a_share_of_the_headroom(tmp_path: Path) -> None:
    ours = submission(tmp_path / "ours", {"good": 0.1, "bad": -0.1, "none": 0.0})
    (board,) = boards([ours]).values()
    good, none, bad = entries(board, HEADROOM)
    assert [entry.policy for entry in (good, none, bad)] == ["good", "none", "bad"]
    gains = [0.1 * (1 + 0.1 * seed) for seed in range(SEEDS)]
    assert good.gain.value == pytest.approx(sum(gains) / SEEDS)
    assert good.score.value == pytest.approx(good.gain.value / 0.22)
    assert good.score.low < good.score.value < good.score.high
    # Three entries: the smallest of two equal probabilities counts thrice, and the next no less.
    assert good.gain.p == pytest.approx(3 * ttest_1samp(gains, 0).pvalue)
    assert (none.gain.p, none.score.value) == (1, 0)


def test_every_submission_is_paired_with_its_own_control(tmp_path: Path) -> None:
    ours, theirs = submission(tmp_path / "ours", {"mine": 0.1}), submission(tmp_path / "theirs", {"mine": 0.05})
    (board,) = boards([ours, theirs]).values()
    assert [entry.submission for entry in entries(board, None)] == ["ours", "theirs"]


def test_rows_of_other_settings_are_on_other_boards(tmp_path: Path) -> None:
    ours = submission(tmp_path / "ours", {"mine": 0.1})
    others = submission(tmp_path / "others", {"mine": 0.1}, settings='{"batch_size": 1}')
    third = submission(tmp_path / "third", {"mine": 0.1}, task="shift")
    assert len(boards([ours, others, third])) == 3
    tables = leaderboard_tables([ours, others, third], {"few": HEADROOM}, "COMMAND")
    assert tables.count("1 is the best found (planner), +0.2200 [+0.2004, +0.2396] of E above guidance only") == 2
    assert "headroom of `shift` has not been measured with" in tables
    assert "| `mine` | ours | 6 | 6 | 0.57 [" in tables
    assert tables.endswith("    COMMAND\n")


def test_headroom_is_of_the_tasks_own_teacher(tmp_path: Path) -> None:
    tables = leaderboard_tables([submission(tmp_path, {"mine": 0.1}, teacher="sage")], {"few": HEADROOM}, "COMMAND")
    assert "headroom of `few` has not been measured with this teacher" in tables


def test_no_score_without_headroom_above_its_noise(tmp_path: Path) -> None:
    noise = Headroom("constant", {(unit, 0): 0.2 * (-1) ** unit for unit in range(5)}, ROUNDS)
    ours = submission(tmp_path / "ours", {"mine": 0.1})
    tables = leaderboard_tables([ours], {"few": noise}, "COMMAND")
    assert "not above its noise" in tables
    assert "| undefined |" in tables
    (board,) = boards([ours]).values()
    assert math.isnan(entries(board, noise)[0].score.value)


def test_headroom_of_other_lengths_is_refused(tmp_path: Path) -> None:
    other = Headroom("planner", HEADROOM.gains, 100)
    with pytest.raises(ConfigError, match=r"headroom of few is of runs of 100 rounds, the rows are of \[3\]"):
        leaderboard_tables([submission(tmp_path, {"mine": 0.1})], {"few": other}, "COMMAND")


def test_headroom_of_another_size_is_refused(tmp_path: Path) -> None:
    """The rounds may be the same: what tells a task from others decides, not how the agent is paid and what it sees."""
    told = {"data": "d", "teacher": "t"}
    keys = {
        preset: {
            (unit, unit): task_identity(
                tasks.config("few", preset, rounds=ROUNDS, stage0_seed=unit, data_seed=unit), told
            )
            for unit in range(5)
        }
        for preset in ("tiny", "small")
    }
    own, other = (Headroom("planner", HEADROOM.gains, ROUNDS, keys[preset]) for preset in ("tiny", "small"))
    ours = submission(tmp_path / "ours", {"mine": 0.1})
    seeing = submission(tmp_path / "seeing", {"mine": 0.1}, settings='{"rounds": 3, "observation": "rich"}')
    larger = submission(tmp_path / "larger", {"mine": 0.1}, preset="small")
    with pytest.raises(ConfigError, match="the headroom of few is of other settings, data or networks than the rows"):
        leaderboard_tables([ours, seeing], {"few": other}, "COMMAND")
    tables = leaderboard_tables([ours, seeing, larger], {"few": own}, "COMMAND")
    assert tables.count("1 is the best found (planner)") == 2
    assert tables.count("headroom of `few` has not been measured with this teacher, data and size") == 1
    assert leaderboard_tables([submission(tmp_path, {"mine": 0.1}, data_fingerprint="d")], {"few": own}, "COMMAND")
    with pytest.raises(ConfigError, match="of other settings, data or networks"):
        leaderboard_tables([submission(tmp_path, {"mine": 0.1}, data_fingerprint="e")], {"few": own}, "COMMAND")


def test_nothing_submitted() -> None:
    assert leaderboard_tables([], {}, "COMMAND").startswith("There is no row yet.")


def test_headroom_is_that_of_the_best_by_the_reward_split(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    choice = headroom_rows({"constant": 5.0}, range(1000, 1003))
    write_csv(path, headroom_rows({"guidance only": 0.0, "constant": 0.1, "planner": 0.2}) + choice)
    headroom = read_headroom(path)
    assert (headroom.kind, headroom.rounds) == ("planner", ROUNDS)
    assert headroom.keys == {(seed, seed): f"key{seed}" for seed in range(5)}
    assert headroom.gains == pytest.approx({(seed, seed): 0.2 * (1 + 0.01 * seed) for seed in range(5)})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"kind": "planner"}], "is no runs.csv of studies/headroom.py"),
        (headroom_rows({"planner": 0.1}), "lacks judged runs of 'guidance only'"),
        (headroom_rows({"guidance only": 0.0}), "or of anything else: finish the study"),
        (headroom_rows({"guidance only": 0.0, "planner": 0.1})[:-1], "one judged run each of the same starts"),
    ],
)
def test_headrooms_that_are_refused(tmp_path: Path, rows: list, message: str) -> None:
    write_csv(tmp_path / "runs.csv", rows)
    with pytest.raises(ConfigError, match=message):
        read_headroom(tmp_path / "runs.csv")
