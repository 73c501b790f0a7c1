"""Rows and actions of others: read back as they were written, or refused with file and line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.benchmarking.executors import Job
from experiments.benchmarking.grid import Cell
from experiments.benchmarking.submission import ACTIONS_FILE, Submission, action_rows, read_submission
from experiments.benchmarking.table import RAW_FILE
from experiments.output import write_csv
from experiments.running.config import RunConfig
from fusion_env.action import ACTION_NAMES
from fusion_env.config import preset
from fusion_env.errors import ConfigError

ROUNDS = 3


def row(policy: str, seed: int, gap: float = -0.1, **changes: Any) -> dict[str, Any]:
    """Return a row as a benchmark writes it, of those columns that a submission needs."""
    return {
        "protocol": "across",
        "task": "few",
        "preset": "tiny",
        "settings": json.dumps({"rounds": ROUNDS}),
        "policy": policy,
        "teacher": "laplacian",
        "data": "procedural",
        "teacher_fingerprint": "t",
        "data_fingerprint": "d",
        "seed": seed,
        "stage0_seed": seed % 2,
        "data_seed": seed % 5,
        "rounds": ROUNDS,
        "report_gap": gap,
        "report_mae": 0.1,
        "mean_reward": -0.2,
        "learning_rounds": 0,
        "planning_rounds": 0,
        "judged_rounds": 2 * ROUNDS,
        "failed_runs": 0,
        "seconds_training": 1.5,
        "seconds_frozen": 0.5,
        "command": "python experiments/benchmark.py --task few",
    } | changes


def actions(policy: str, seed: int, run: int) -> list[dict[str, Any]]:
    named = {"task": "few", "teacher": "laplacian", "data": "procedural", "policy": policy, "seed": seed, "run": run}
    return [
        {**named, "round": number, **{f"action_{name}": str(np.float32(number / 10)) for name in ACTION_NAMES}}
        for number in range(1, ROUNDS + 1)
    ]


def write(folder: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    """Write a sound submission of two policies with two seeds, or the rows given."""
    rows = rows or [row(policy, seed) for policy in ("guidance-only", "mine") for seed in range(2)]
    write_csv(folder / RAW_FILE, rows)
    write_csv(
        folder / ACTIONS_FILE,
        [one for of in rows for run in (4, 5) for one in actions(of["policy"], of["seed"], run)],
    )
    return folder


def test_rows_and_actions_are_read_back(tmp_path: Path) -> None:
    submission = read_submission(write(tmp_path / "ours"))
    assert submission.name == "ours"
    assert [submitted.line for submitted in submission.rows] == [2, 3, 4, 5]
    assert submission.rows[2].values["report_gap"] == -0.1
    assert submission.rows[2].settings == {"rounds": ROUNDS}
    runs = submission.actions()[Submission.actions_of(submission.rows[2])]
    assert [len(run) for run in runs] == [ROUNDS, ROUNDS]
    assert runs[0][0] == (float(np.float32(0.1)),) * len(ACTION_NAMES)


@pytest.mark.parametrize(("protocol", "runs"), [("online", {"1"}), ("across", {"2", "3"})])
def test_the_actions_of_judged_runs_are_written_with_all_digits(tmp_path: Path, protocol: str, runs: set) -> None:
    across = protocol == "across"
    config = RunConfig(env=preset("tiny"), protocol=protocol, runs=2, eval_runs=2 * across, task="few")
    cell = Cell("mine", "laplacian", "procedural", 0, 0, Job(config, tmp_path))
    value = float(np.float32(0.1))
    phases = [("learn", "0"), ("learn", "1"), *(("evaluate", run) for run in "23" if across)]
    rounds = [
        {"phase": phase, "run": run, "round": "1", **{f"action_{name}": repr(value) for name in ACTION_NAMES}}
        for phase, run in phases
    ]
    rows = action_rows(cell, rounds)
    assert {one["run"] for one in rows} == runs
    assert rows[0]["action_blur"] == "0.1"
    assert np.float32(rows[0]["action_blur"]) == np.float32(value)


def changed(**changes: Any) -> Callable[[list[dict]], None]:
    return lambda rows: rows[3].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(task="fwe"), "line 5: task must be one of .*few.* Got 'fwe'"),
        (changed(preset="huge"), "line 5: preset must be one of"),
        (changed(protocol="offline"), "line 5: protocol must be one of"),
        (changed(settings="[]"), "line 5: settings must be a mapping"),
        (changed(settings="{"), "line 5: "),
        (changed(settings='{"round": 3}'), "line 5: settings .*unknown setting 'round'. Did you mean 'rounds'"),
        (changed(settings='{"preset": "bench"}'), "line 5: settings must be those of the environment: "),
        (changed(settings='{"rounds": "x"}'), "line 5: rounds must be"),
        (changed(settings='{"cache_dir": "x"}'), "line 5: settings must not name what belongs to a machine: cache_dir"),
        (changed(report_gap="nan"), "line 5: report_gap must be a finite number. Got 'nan'"),
        (changed(report_mae="good"), "line 5: report_mae must be a finite number"),
        (changed(learning_rounds="-1"), "line 5: learning_rounds must be a whole number"),
        (changed(settings="[" * 100_000), "line 5: .*recursion"),
        (changed(command=" "), "line 5: command is empty"),
        (changed(command="a ` b"), "line 5: command must be one line without backticks"),
        (changed(policy="a\n# b"), "line 6: policy must be one line without backticks"),
        (lambda rows: rows[1].update(failed_runs=1), "line 3: runs of guidance-only failed"),
        (changed(seed=1000), "line 5: seeds from 1000 on are for tuning"),
        (changed(seed=0), "line 5: the run of line 4 again"),
        (changed(seed=7), "line 5: there is no run of guidance-only with its seed, start and draw"),
        (changed(data_seed=3), "line 5: there is no run of guidance-only with its seed, start and draw"),
        (changed(preset="bench"), "line 5: there is no run of guidance-only"),
        (changed(rounds=30), "line 5: its students had 30 rounds, guidance-only's 3"),
        (changed(judged_rounds=ROUNDS), "line 5: its judged runs had 3 rounds in all, guidance-only's 6"),
        (lambda rows: [one.pop("command") for one in rows], "line 1: the columns command are missing"),
    ],
)
def test_rows_that_cannot_be_compared(tmp_path: Path, change: Callable, message: str) -> None:
    rows = [row(policy, seed) for policy in ("guidance-only", "mine") for seed in range(2)]
    change(rows)
    write_csv(tmp_path / RAW_FILE, rows)
    with pytest.raises(ConfigError, match=f"{re.escape(str(tmp_path / RAW_FILE))}, {message}"):
        read_submission(tmp_path)


def test_equal_tasks_share_a_table_however_they_are_written(tmp_path: Path) -> None:
    bench = preset("bench").to_dict()
    size = {name: value for name, value in preset("small").to_dict().items() if value != bench[name]}
    spelt = [{"preset": "bench", "settings": json.dumps(size)}, {"preset": "small", "settings": '{"obs_scale": 5.0}'}]
    for changes in spelt:
        submission = read_submission(write(tmp_path, [row("guidance-only", 0, **changes)]))
        assert (submission.rows[0].values["preset"], submission.rows[0].settings) == ("small", {})


def test_the_long_control_may_have_more_rounds_and_online_has_one_run(tmp_path: Path) -> None:
    rows = [row("guidance-only", 0), row("guidance-only-long", 0, rounds=30)]
    assert len(read_submission(write(tmp_path / "long", rows)).rows) == 2
    rows = [row(policy, 0, protocol="online", learning_rounds=6) for policy in ("guidance-only", "ppo")]
    with pytest.raises(ConfigError, match="line 2: online, one run counts"):
        read_submission(write(tmp_path / "online", rows))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines.pop(2), "line 3: round 3 stands where round 2 is due"),
        (lambda lines: lines.insert(2, lines[1].replace("guidance-only", "other")), "line 3: raw.csv has no row of"),
        (lambda lines: lines.__setitem__(1, lines[1].replace("0.1", "inf")), "line 2: a number of an action must be"),
        (lambda lines: lines.__setitem__(1, lines[1].replace("0.1", "1e39")), "line 2: a number of an action must fit"),
        (lambda lines: lines.__setitem__(1, lines[1] + ",1"), "line 2: too many or too few columns"),
        (
            lambda lines: lines.__setitem__(0, lines[0].replace("action_blur", "blur")),
            "line 1: .*action_blur.* missing",
        ),
        (lambda lines: lines.clear(), "line 1: the columns"),
    ],
)
def test_damaged_actions(tmp_path: Path, damage: Callable, message: str) -> None:
    path = write(tmp_path) / ACTIONS_FILE
    lines = path.read_text().splitlines()
    damage(lines)
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=f"actions.csv, {message}"):
        read_submission(tmp_path).actions()


def test_what_is_no_submission(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="raw.csv cannot be read .*what benchmark.py writes"):
        read_submission(tmp_path)
    write(tmp_path)
    (tmp_path / ACTIONS_FILE).unlink()
    with pytest.raises(ConfigError, match="actions.csv cannot be read"):
        read_submission(tmp_path).actions()
