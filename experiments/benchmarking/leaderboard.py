"""The leaderboard: what each submitted policy gains over guidance only, as a share of what is known to be gainable."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from experiments.benchmarking.grid import CONTROL, TUNING_SEEDS_FROM
from experiments.benchmarking.submission import BOARD, Submission, Submitted
from experiments.benchmarking.table import UNIT, Row, shown_probability, unit_means
from experiments.benchmarking.uncertainty import (
    FEWEST_UNITS,
    Difference,
    Estimate,
    holm,
    normalised_score,
    paired_difference,
)
from experiments.output import markdown_table
from fusion_env import tasks, teachers
from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError
from fusion_env.task import task_identity

__all__ = ["Entry", "Headroom", "boards", "entries", "leaderboard_tables", "read_headroom"]

_SCORE = "report_gap"
_HEADROOM_CONTROL = "guidance only"
"""The control's kind in the study of the headroom."""

_AGENTS_OWN = ("observation", "reward")
"""Settings that change what an agent sees and is paid, and nothing that its actions lead to."""

Units = dict[tuple[Any, ...], float]


@dataclass(frozen=True)
class Headroom:
    """What is known to be gainable on a task.

    Attributes:
        kind: What gained it: the best by the reward split.
        gains: Its gain over guidance only on the report split, by start.
        rounds: Of each run.
        keys: What tells its task from others, by start; see `fusion_env.task.task_identity`.
    """

    kind: str
    gains: Units
    rounds: int
    keys: Mapping[tuple[Any, ...], str] = field(default_factory=dict)


def read_headroom(path: Path) -> Headroom:
    """Read the ``runs.csv`` of `experiments/studies/headroom.py`.

    Only runs of reporting seeds count; the kind that is best by the reward split is the best found.

    Raises:
        ConfigError: The file is no such study, or not finished.
    """
    columns = ["task", "kind", "name", "seed", *UNIT, "rounds", "best_reward_gap", "best_report_gap"]
    try:
        frame = pd.read_csv(path, usecols=columns, dtype={"task": str})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no runs.csv of studies/headroom.py: {error}") from error
    judged = frame[frame["seed"] < TUNING_SEEDS_FROM]
    kinds = {str(kind): rows for kind, rows in judged.groupby("kind")}
    if _HEADROOM_CONTROL not in kinds or len(kinds) < 2:
        raise ConfigError(f"{path} lacks judged runs of {_HEADROOM_CONTROL!r}, or of anything else: finish the study")
    control = kinds.pop(_HEADROOM_CONTROL).set_index(list(UNIT))
    best = max(kinds, key=lambda kind: float(kinds[kind]["best_reward_gap"].mean()))
    found = kinds[best].set_index(list(UNIT))
    if set(found.index) != set(control.index) or not (found.index.is_unique and control.index.is_unique):
        raise ConfigError(
            f"{path}: {best!r} and {_HEADROOM_CONTROL!r} must have one judged run each of the same starts"
        )
    gains = found["best_report_gap"] - control["best_report_gap"]
    return Headroom(
        best,
        {tuple(map(int, unit)): float(gain) for unit, gain in gains.items()},
        int(found["rounds"].max()),
        {tuple(map(int, unit)): str(key) for unit, key in found["task"].items()},
    )


@dataclass(frozen=True)
class Entry:
    """A policy of a submission on one board.

    Attributes:
        policy: Its name.
        submission: The folder's.
        rows: Its runs.
        gain: Less the control of the same submission, by start; `p` is corrected for the entries of the board.
        score: The normalised score; NaN where there is no headroom.
        starts: Number of starts.
    """

    policy: str
    submission: str
    rows: Sequence[Row]
    gain: Difference
    score: Estimate
    starts: int


def boards(submissions: Iterable[Submission]) -> dict[tuple[Any, ...], dict[str, list[Submitted]]]:
    """Sort the rows of submissions by `BOARD`, and by submission."""
    sorted_rows: dict[tuple[Any, ...], dict[str, list[Submitted]]] = {}
    for submission in submissions:
        for row in submission.rows:
            sorted_rows.setdefault(row.key(BOARD), {}).setdefault(submission.name, []).append(row)
    return dict(sorted(sorted_rows.items()))


def entries(board: Mapping[str, Sequence[Submitted]], headroom: Headroom | None) -> list[Entry]:
    """Return the entries of one board, the best first.

    Args:
        board: Its rows by submission, all of one task.
        headroom: What is gainable; None where nobody knows.
    """
    found = []
    for name, submitted in board.items():
        rows = [dict(row.values) for row in submitted]
        for policy in dict.fromkeys(row["policy"] for row in rows):
            if policy == CONTROL:
                continue
            own = [row for row in rows if row["policy"] == policy]
            # The control by run, not by start: a submission may have fewer runs of one policy than of another.
            seeds = {row["seed"] for row in own}
            beside = [row for row in rows if row["policy"] == CONTROL and row["seed"] in seeds]
            gains, control = unit_means(own, policy, _SCORE), unit_means(beside, CONTROL, _SCORE)
            gains = {unit: value - control[unit] for unit, value in gains.items()}
            score = normalised_score(gains, headroom.gains) if headroom else Estimate(math.nan, math.nan, math.nan)
            difference = paired_difference(list(gains.values()), [0.0] * len(gains))
            found.append(Entry(policy, name, own, difference, score, len(gains)))
    ps = holm([entry.gain.p for entry in found])
    corrected = [replace(entry, gain=replace(entry.gain, p=p)) for entry, p in zip(found, ps, strict=True)]
    return sorted(corrected, key=lambda entry: -entry.gain.value)


def leaderboard_tables(submissions: Sequence[Submission], headrooms: Mapping[str, Headroom], command: str) -> str:
    """Write one section for each board as Markdown.

    Args:
        submissions: What was submitted.
        headrooms: What is gainable, by task.
        command: How this was called.

    Raises:
        ConfigError: The headroom of a task is of runs of another length; or there are rows of the task, all with other
            settings, data or networks.
    """
    parts: list[str] = []
    used: set[str] = set()
    unused: set[str] = set()
    for key, board in boards(submissions).items():
        named = dict(zip(BOARD, key, strict=True))
        own = tasks.config(named["task"], named["preset"])
        is_own = (named["teacher"], named["data"]) == (own.teacher, Path(own.data).name)
        headroom = headrooms.get(named["task"]) if is_own else None
        if headroom is not None:
            fits = _fits(headroom, own, json.loads(named["settings"]), board)
            (used if fits else unused).add(named["task"])
            headroom = headroom if fits else None
        parts += [_title(named), _headroom_sentence(board, headroom, named["task"]), _table(entries(board, headroom))]
    for task in sorted(unused - used):
        raise ConfigError(
            f"the headroom of {task} is of other settings, data or networks than the rows: leave it out, or measure it "
            "as they were made"
        )
    return "\n\n".join([*(parts or ["There is no row yet."]), f"    {command}\n"])


def _fits(
    headroom: Headroom, own: DistillConfig, settings: Mapping[str, Any], board: Mapping[str, Sequence[Submitted]]
) -> bool:
    """Tell whether a headroom is of a board's size, settings, data and networks, as far as the rows know these.

    Args:
        headroom: What may be gainable there.
        own: The board's task at its size.
        settings: What differs from it.
        board: The rows.
    """
    if own.data != "procedural" or teachers.missing(own.teacher, None) is not None:
        return True  # files lie elsewhere on every machine, and the keys know their places
    config = own.replace(**{name: value for name, value in settings.items() if name not in _AGENTS_OWN})
    content = {
        row.values["data_seed"]: {name: row.values[f"{name}_fingerprint"] for name in ("data", "teacher")}
        for rows in board.values()
        for row in rows
    }
    return all(
        key == task_identity(config.replace(stage0_seed=stage0_seed, data_seed=data_seed), content[data_seed])
        for (stage0_seed, data_seed), key in headroom.keys.items()
        if data_seed in content
    )


def _title(named: Mapping[str, str]) -> str:
    settings = "" if named["settings"] == "{}" else f", with `{named['settings']}`"
    where = f"teacher {named['teacher']}, data {named['data']}, preset `{named['preset']}`{settings}"
    return f"## {named['task']}, protocol {named['protocol']}\n\nTask `{named['task']}`: {where}."


def _headroom_sentence(board: Mapping[str, Sequence[Submitted]], headroom: Headroom | None, task: str) -> str:
    if headroom is None:
        return (
            f"The headroom of `{task}` has not been measured with this teacher, data and size: there is no normalised "
            "score."
        )
    controls = {row.values["rounds"] for rows in board.values() for row in rows if row.values["policy"] == CONTROL}
    if controls != {headroom.rounds}:
        raise ConfigError(
            f"the headroom of {task} is of runs of {headroom.rounds} rounds, the rows are of {sorted(controls)}: leave "
            "it out, or measure it at this length"
        )
    gain = paired_difference(list(headroom.gains.values()), [0.0] * len(headroom.gains))
    known = f"1 is the best found ({headroom.kind}), {gain:+.4f} of E above guidance only, {len(headroom.gains)} starts"
    return f"{known}." if gain.low > 0 else f"{known}: **not above its noise, so no normalised score is defined**."


def _table(found: Sequence[Entry]) -> str:
    header = ["policy", "submission", "runs", "starts", "normalised score", f"E less {CONTROL}", "p (Holm)"]
    header += ["rounds to learn / plan / judge", "seconds", "failed", "command"]
    table = markdown_table(header, [_cells(entry) for entry in found])
    few = [entry.policy for entry in found if entry.starts < FEWEST_UNITS]
    note = f"\n\n**Fewer than {FEWEST_UNITS} starts, so that intervals say little: {', '.join(few)}.**" if few else ""
    return table + note


def _cells(entry: Entry) -> list[str]:
    def mid(name: str) -> str:
        return f"{median(row[name] for row in entry.rows):.0f}"

    undefined = math.isnan(entry.score.value)
    return [
        f"`{entry.policy}`",
        entry.submission,
        str(len(entry.rows)),
        str(entry.starts),
        "undefined" if undefined else f"{entry.score:.2f}",
        f"{entry.gain:+.4f}",
        shown_probability(entry.gain.p),
        " / ".join(mid(f"{kind}_rounds") for kind in ("learning", "planning", "judged")),
        f"{median(row['seconds_training'] + row['seconds_frozen'] for row in entry.rows):.0f}",
        str(sum(row["failed_runs"] for row in entry.rows)),
        f"`{entry.rows[0]['command']}`",
    ]
