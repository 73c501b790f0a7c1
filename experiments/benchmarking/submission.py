"""Rows and actions of a benchmark as files that others can check: written, read back, and refused line by line."""

import csv
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarking.grid import CONTROL, LONG_CONTROL, NOT_TOLD, TUNING_SEEDS_FROM, Cell
from experiments.benchmarking.series import Rounds
from experiments.benchmarking.table import RAW_FILE, TASK, UNIT
from fusion_env import tasks
from fusion_env.action import ACTION_NAMES
from fusion_env.config import PRESETS
from fusion_env.errors import ConfigError

__all__ = ["ACTIONS_FILE", "BOARD", "Action", "Submission", "Submitted", "action_rows", "read_submission"]

ACTIONS_FILE = "actions.csv"
"""The actions of the judged runs, beside the rows that they made."""

BOARD = ("protocol", *TASK, "preset", "settings")
"""Columns of what is one table: only rows that agree in all of them are compared."""
_RUN = (*BOARD, "policy", "seed")
_ACTIONS_OF = (*TASK, "policy", "seed")
_WHOLE = ("seed", *UNIT, "rounds", "learning_rounds", "planning_rounds", "judged_rounds", "failed_runs")
_NUMBERS = ("report_gap", "report_mae", "mean_reward", "seconds_training", "seconds_frozen")
_TEXTS = (*BOARD, "policy", "command", "teacher_fingerprint", "data_fingerprint")

Action = tuple[float, ...]


def action_rows(cell: Cell, rounds: Rounds) -> list[dict[str, Any]]:
    """Return the actions of a cell's judged runs, one row for each round.

    Args:
        cell: One run of a benchmark.
        rounds: The rows of its directory.
    """
    config = cell.job.config
    phase, last = ("evaluate", None) if config.protocol == "across" else ("learn", config.runs - 1)
    named = {"task": config.task or "", "teacher": cell.teacher, "data": cell.data}
    return [
        {
            **named,
            "policy": cell.policy,
            "seed": cell.seed,
            "run": row["run"],
            "round": row["round"],
            # Of an environment's float32 these are all digits.
            **{f"action_{name}": str(np.float32(row[f"action_{name}"])) for name in ACTION_NAMES},
        }
        for row in rounds
        if row["phase"] == phase and last in (None, int(row["run"]))
    ]


@dataclass(frozen=True)
class Submitted:
    """One row of a submission.

    Attributes:
        line: Its line in the file.
        values: Its columns; whole numbers and numbers as such, the others as text.
    """

    line: int
    values: Mapping[str, Any]

    def key(self, columns: Iterable[str]) -> tuple[Any, ...]:
        """Return some of its columns."""
        return tuple(self.values[name] for name in columns)

    @property
    def settings(self) -> dict[str, Any]:
        """Fields of `DistillConfig` that differ from task and preset."""
        return json.loads(self.values["settings"])

    def __str__(self) -> str:
        return f"line {self.line}: {self.values['task']}, {self.values['policy']}, seed {self.values['seed']}"


@dataclass(frozen=True)
class Submission:
    """Results that somebody offers.

    Attributes:
        name: Of its folder.
        path: The file of the rows.
        rows: All rows, in their order.
    """

    name: str
    path: Path
    rows: Sequence[Submitted]

    def actions(self) -> dict[tuple[Any, ...], list[list[Action]]]:
        """Read the actions: for the key of each row (see `actions_of`) those of its judged runs, in their order.

        Raises:
            ConfigError: The file is missing or damaged, or has actions of a run that no row is about.
        """
        path = self.path.with_name(ACTIONS_FILE)
        known = {row.key(_ACTIONS_OF) for row in self.rows}
        runs: dict[tuple[Any, ...], dict[int, list[Action]]] = {}
        for line, values in _lines(path, (*_ACTIONS_OF, "run", "round", *_action_columns())):
            with _at(path, line):
                key = tuple(int(values[name]) if name == "seed" else values[name] for name in _ACTIONS_OF)
                if key not in known:
                    raise ValueError(f"{RAW_FILE} has no row of {dict(zip(_ACTIONS_OF, key, strict=True))}")
                action = tuple(_single(values[name]) for name in _action_columns())
                run = runs.setdefault(key, {}).setdefault(int(values["run"]), [])
                if int(values["round"]) != len(run) + 1:
                    raise ValueError(f"round {values['round']} stands where round {len(run) + 1} is due")
                run.append(action)
        return {key: [by_number[number] for number in sorted(by_number)] for key, by_number in runs.items()}

    @staticmethod
    def actions_of(row: Submitted) -> tuple[Any, ...]:
        """Return the key of a row in `actions`."""
        return row.key(_ACTIONS_OF)


def read_submission(folder: Path) -> Submission:
    """Read the rows of a submission, and refuse what cannot be compared.

    Every policy must have been run beside `CONTROL`: with the same seed, start and draw of the data, and as many rounds
    for a student.

    Raises:
        ConfigError: Something is wrong with a row; the message names file and line.
    """
    path = folder / RAW_FILE
    rows = [_row(path, line, values) for line, values in _lines(path, (*_TEXTS, *_WHOLE, *_NUMBERS))]
    controls = {(*row.key(BOARD), row.values["seed"]): row for row in rows if row.values["policy"] == CONTROL}
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        with _at(path, row.line):
            first = seen.setdefault(row.key(_RUN), row.line)
            if first != row.line:
                raise ValueError(f"the run of line {first} again")
            _check_beside(row, controls.get((*row.key(BOARD), row.values["seed"])))
    return Submission(folder.name, path, rows)


def _row(path: Path, line: int, values: Mapping[str, str]) -> Submitted:
    with _at(path, line):
        known: dict[str, Any] = {name: values[name] for name in _TEXTS}
        known |= {name: _counted(name, values[name]) for name in _WHOLE}
        known |= {name: _finite(values[name], name) for name in _NUMBERS}
        _one_of("protocol", known["protocol"], ("online", "across"))
        _one_of("task", known["task"], tasks.names())
        _one_of("preset", known["preset"], PRESETS.names())
        known |= _shortest(known)
        for name in ("policy", "command"):
            if not known[name].strip():
                raise ValueError(f"{name} is empty")
        for name in _TEXTS:
            if "`" in known[name] or not known[name].isprintable():  # it would break out of its cell
                raise ValueError(f"{name} must be one line without backticks. Got {known[name]!r}")
        if known["policy"] == CONTROL and known["failed_runs"]:
            raise ValueError(f"runs of {CONTROL} failed: against them anything gains, so nothing can be compared")
        if max(known[name] for name in ("seed", *UNIT)) >= TUNING_SEEDS_FROM:
            raise ValueError(f"seeds from {TUNING_SEEDS_FROM} on are for tuning: they are not reported")
    return Submitted(line, known)


def _shortest(known: Mapping[str, str]) -> dict[str, str]:
    """Check the settings, and return what takes their place and their preset's: a preset that is just that.

    So equal tasks share a table, however they are written.
    """
    settings = json.loads(known["settings"])
    if not isinstance(settings, dict):
        raise ValueError(f"settings must be a mapping in JSON. Got {known['settings']}")
    for name in settings:
        if name in NOT_TOLD:  # whoever replays the row has places and processors of their own
            raise ValueError(f"settings must not name what belongs to a machine: {name}")
    try:
        config = tasks.config(known["task"], known["preset"], **settings)
    except TypeError as error:
        raise ValueError(f"settings must be those of the environment: {error}") from error
    same = [name for name in PRESETS.names() if tasks.config(known["task"], name) == config]
    return {"preset": same[0], "settings": "{}"} if same else {}


def _check_beside(row: Submitted, control: Submitted | None) -> None:
    if control is None or control.key(UNIT) != row.key(UNIT):
        raise ValueError(f"there is no run of {CONTROL} with its seed, start and draw: run it in the same benchmark")
    if row.values["protocol"] == "online" and row.values["learning_rounds"] > row.values["rounds"]:
        raise ValueError("online, one run counts, or its actions alone do not make it again: set --runs 1")
    if row.values["policy"] != LONG_CONTROL and row.values["rounds"] != control.values["rounds"]:
        raise ValueError(f"its students had {row.values['rounds']} rounds, {CONTROL}'s {control.values['rounds']}")
    judged, due = row.values["judged_rounds"], control.values["judged_rounds"]
    if row.values["policy"] != LONG_CONTROL and not row.values["failed_runs"] and judged != due:
        raise ValueError(f"its judged runs had {judged} rounds in all, {CONTROL}'s {due}")


def _lines(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file as pairs of a line number and a row that has all columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path}, line 1: the columns {', '.join(missing)} are missing")
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({error}): a submission is what benchmark.py writes") from error
    if not lines:
        raise ConfigError(f"{path} holds no row")
    for line, row in lines:
        if None in row or None in row.values():
            raise ConfigError(f"{path}, line {line}: too many or too few columns")
    return lines


@contextmanager
def _at(path: Path, line: int) -> Iterator[None]:
    """Name file and line in what goes wrong."""
    try:
        yield
    except (ValueError, RecursionError) as error:  # the latter of nested JSON
        raise ConfigError(f"{path}, line {line}: {error}") from error


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}. Got {value!r}")


def _counted(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{name} must be a whole number of 0 or more. Got {text!r}")
    return int(text)


def _finite(text: str, name: str = "a number of an action") -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number. Got {text!r}")
    return value


def _single(text: str) -> float:
    value = _finite(text)
    if abs(value) > float(np.finfo(np.float32).max):
        raise ValueError(f"a number of an action must fit into float32. Got {text!r}")
    return float(np.float32(value))


def _action_columns() -> list[str]:
    return [f"action_{name}" for name in ACTION_NAMES]
