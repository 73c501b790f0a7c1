"""Runs of constant actions, schedules and the planner, one row of numbers each; those that are done are read."""

import csv
import errno
import functools
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

import agents
from experiments.output import write_csv
from experiments.processes import Workers
from experiments.studies.split_scores import SplitScores
from fusion_env.action import ACTION_NAMES, ACTION_SIZE
from fusion_env.config import DistillConfig
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask, build_task, content_fingerprints, task_identity
from student.weights import build_student

__all__ = [
    "CHOSEN_BY",
    "CONSTANT",
    "GUIDANCE_ONLY",
    "JUDGED_BY",
    "KINDS",
    "METRICS",
    "MOST_GUIDANCE",
    "PLANNER",
    "SCHEDULE",
    "Row",
    "Stratum",
    "Trial",
    "Trials",
    "check_planner",
    "ends",
    "make_folder",
    "read_own_rows",
    "row_stratum",
    "task_at",
    "task_key",
]

METRICS = ("vif", "iqa", "mae", "viff", "ag", "ei", "en", "qabf", "ssim")
"""Scored on both splits, of the student that a run delivers and of that of its last round."""

KINDS = GUIDANCE_ONLY, CONSTANT, SCHEDULE, PLANNER = ("guidance only", "constant", "schedule", "planner")
"""What acts: nothing (there is no self-learning loss), one action, a line between two, or the planner."""

CHOSEN_BY, JUDGED_BY = "best_reward_gap", "best_report_gap"
"""E(student) - E(teacher) of the delivered student: as the reward has it, and on the report split."""

MOST_GUIDANCE = (1.0, *[-1.0] * (ACTION_SIZE - 1))
"""The action of the largest guidance weight that there is, without degradation."""

_TEXTS = ("task", "kind", "name")
_STRATUM = ("seed", "stage0_seed", "data_seed")
_ACTION_COLUMNS = ("kind", "name", *_STRATUM, "round", *ACTION_NAMES)

Row = dict[str, Any]
Vector = tuple[float, ...]


@dataclass(frozen=True, order=True)
class Stratum:
    """What a curriculum does not choose: the seed of its run, of its start, and of the data."""

    seed: int
    stage0_seed: int
    data_seed: int


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        kind: One of `KINDS`.
        name: Which of its kind; kind, name and stratum tell a trial from all others.
        start: The first action; the planner's first action so far.
        end: The last action.
        stratum: Its seeds.
        settings: Of the planner.
    """

    kind: str
    name: str
    start: Vector
    end: Vector
    stratum: Stratum
    settings: Mapping[str, Any] = field(default_factory=dict)

    def at(self, stratum: Stratum) -> "Trial":
        """Return the same with other seeds."""
        return replace(self, stratum=stratum)

    @property
    def key(self) -> tuple[str, str, Stratum]:
        """What tells it from others."""
        return self.kind, self.name, self.stratum


Finished = tuple[tuple[str, str, Stratum], Row, list[Row]]
"""The key of a trial, its row, and the planner's actions."""


class Trials:
    """The trials of a task; to be used in a `with` block.

    Args:
        config: The task, whose `stage0_seed` and `data_seed` the trials replace.
        out: Directory with ``runs.csv``, a row for each trial, and ``planner.csv``, the planner's actions.
        workers: Trials at a time, each in a process of its own; 1 for this one.
        progress: Progress display over the trials.

    Attributes:
        config: The task.
        rows: All rows of ``runs.csv``.
        actions: All rows of ``planner.csv``.

    Raises:
        ConfigError: The directory holds damaged rows, or those of other settings, data or networks; or it cannot be
            made or written to.
    """

    def __init__(self, config: DistillConfig, out: Path, workers: int = 1, progress: Progress = no_progress) -> None:
        self.config, self._progress, self._workers = config, progress, Workers(workers)
        make_folder(out)
        self._path, self._actions_path = out / "runs.csv", out / "planner.csv"
        self.rows = read_own_rows(self._path, config, _columns(config))
        self.actions = _read(self._actions_path, _ACTION_COLUMNS)
        self._known: dict[tuple[str, str, Stratum], Row] = {}
        for row in self.rows:
            key, named = _key(row), f"a {row['kind']} {row['name']!r} with seed {row['seed']}"
            if key in self._known:
                raise ConfigError(f"{self._path} holds {named} twice: choose another --out")
            if row["kind"] == PLANNER and len(self.planned(row)) != row["rounds"]:
                raise ConfigError(f"{self._actions_path} lacks actions of {named}: choose another --out")
            self._known[key] = row

    def run(self, trials: Sequence[Trial], title: str) -> list[Row]:
        """Return the rows of some trials, in their order; each is on disk as soon as it is there.

        Raises:
            ConfigError: A trial of the same kind, name and stratum had other actions.
        """
        missing = [trial for trial in trials if trial.key not in self._known]
        done = self._workers.results(_run, [(self.config, trial) for trial in missing])
        for _, (key, row, taken) in zip(self._progress(missing, title), done, strict=True):
            if taken:  # first: a row says that all is there
                self.actions = [old for old in self.actions if _key(old) != key]
                self.actions += taken
                write_csv(self._actions_path, self.actions)
            self.rows.append(row)
            self._known[key] = row
            write_csv(self._path, self.rows)
        rows = [self._known[trial.key] for trial in trials]
        for trial, row in zip(trials, rows, strict=True):
            if not np.allclose(ends(row), (trial.start, trial.end), atol=1e-6):
                raise ConfigError(
                    f"{self._path} holds a {trial.kind} {trial.name!r} with other actions: choose another --out"
                )
        return rows

    def __enter__(self) -> "Trials":
        """Return the trials; their processes end with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def planned(self, row: Row) -> list[Row]:
        """Return the planner's actions, one row for each round, that belong to one of its rows."""
        return [action for action in self.actions if _key(action) == _key(row)]


def make_folder(out: Path) -> None:
    """Make the folder of a study's results, if need be, before any work.

    Raises:
        ConfigError: It cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(f"{out} cannot be a folder for results ({error.strerror}): choose another --out") from error


def check_planner(settings: Mapping[str, Any]) -> None:
    """Refuse settings of a trial's planner that it would refuse.

    Raises:
        ConfigError: A name is unknown, a value is out of range, or it is what the trial itself sets.
    """
    try:
        agents.check_settings("planner", settings)
        for name in ("seed", "start"):
            if name in settings:
                raise ValueError(f"{name} is the study's: leave it out")
        planner = agents.Planner(_init_setup_model=False, **_planner_settings(settings, MOST_GUIDANCE))
        planner.action_space = planner.observation_space = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        planner._setup_model()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"settings of the planner: {error}") from error


def _planner_settings(settings: Mapping[str, Any], start: Vector) -> dict[str, Any]:
    return {**agents.hyperparams("planner"), "start": list(start), "anchors": [list(MOST_GUIDANCE)], **settings}


def _key(row: Row) -> tuple[str, str, Stratum]:
    return row["kind"], row["name"], row_stratum(row)


def row_stratum(row: Row) -> Stratum:
    """Return the seeds of a row."""
    return Stratum(*(row[name] for name in _STRATUM))


def ends(row: Row) -> tuple[Vector, Vector]:
    """Return the first and the last action of a row."""
    start, end = (tuple(row[f"{name}_{number}"] for number in ACTION_NAMES) for name in ("start", "end"))
    return start, end


def read_own_rows(path: Path, config: DistillConfig, columns: Sequence[str]) -> list[Row]:
    """Read the rows of a study, exactly as they were written; none where there is no file.

    Args:
        path: CSV file.
        config: The task, whose `stage0_seed` and `data_seed` the rows replace.
        columns: What they have; `task`, `seed`, `stage0_seed` and `data_seed` are among it.

    Raises:
        ConfigError: They have other columns, one is damaged, or is of other settings, data or networks.
    """
    rows = _read(path, columns)
    if any(row["task"] != task_key(config, row_stratum(row)) for row in rows):
        raise ConfigError(f"{path} holds runs of other settings, data or networks: choose another --out")
    return rows


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or columns
            lines = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({error}): choose another --out") from error
    for name in columns:
        if name not in names:
            raise ConfigError(f"{path} has no column {name!r}: choose another --out")
    for name in names:
        if name not in columns:
            raise ConfigError(f"{path} has a column {name!r} that is unknown here: choose another --out")
    try:
        return [_row(line, row) for line, row in lines]
    except ValueError as error:
        raise ConfigError(f"{path}, {error}: choose another --out") from error


def _row(line: int, row: Mapping[str, str]) -> Row:
    if None in row or None in row.values():
        raise ValueError(f"line {line}: too many or too few columns")
    try:
        return {name: _value(name, text) for name, text in row.items()}
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error


def _value(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text) if text.removeprefix("-").isdecimal() else float(text)
    except ValueError as error:
        raise ValueError(f"{name} must be a number. Got {text!r}") from error


def _columns(config: DistillConfig) -> list[str]:
    """Return the columns of a trial's row."""
    scored = dict.fromkeys((*METRICS, *config.score_metrics))
    return [
        *("task", "kind", "name", *_STRATUM),
        *(f"{end}_{name}" for end, name in itertools.product(("start", "end"), ACTION_NAMES)),
        *("rounds", "planning_rounds", "cpu_seconds", "diverged", "best_round"),
        *(CHOSEN_BY, JUDGED_BY, "last_reward_gap", "last_report_gap"),
        *("_".join(parts) for parts in itertools.product(("best", "last"), ("reward", "report"), scored)),
    ]


def _varied(config: DistillConfig, stratum: Stratum) -> DistillConfig:
    return config.replace(stage0_seed=stratum.stage0_seed, data_seed=stratum.data_seed)


@functools.cache
def task_key(config: DistillConfig, stratum: Stratum) -> str:
    """Return what tells a task at some seeds from all others: its settings, data and networks."""
    varied = _varied(config, stratum)
    return task_identity(varied, content_fingerprints(varied))


@functools.lru_cache(maxsize=2)
def task_at(config: DistillConfig, stratum: Stratum) -> DistillationTask:
    """Build a task at some seeds; the last two stay for the next runs."""
    return build_task(_varied(config, stratum))


def _run(job: tuple[DistillConfig, Trial]) -> Finished:
    config, trial = job
    task = task_at(config.replace(self_learning=trial.kind != GUIDANCE_ONLY), trial.stratum)
    begun = time.process_time()
    env = FusionDistillEnv.from_task(task)
    planning_rounds = _act(env, trial)
    seconds = time.process_time() - begun
    named = {"kind": trial.kind, "name": trial.name, **vars(trial.stratum)}
    result = env.last_run
    assert result is not None
    row = {
        "task": task_key(config, trial.stratum),
        **named,
        **{f"start_{name}": value for name, value in zip(ACTION_NAMES, trial.start, strict=True)},
        **{f"end_{name}": value for name, value in zip(ACTION_NAMES, trial.end, strict=True)},
        "rounds": len(result.actions),
        "planning_rounds": planning_rounds,
        "cpu_seconds": round(seconds, 2),
        "diverged": result.diverged,
        "best_round": result.best_round,
        CHOSEN_BY: env.run.best_gap,
        JUDGED_BY: result.report["e"] - result.teacher_report["e"],
        "last_reward_gap": env.run.gap,
        "last_report_gap": result.last_report["e"] - result.teacher_report["e"],
        **_scores(task, {"best": result.student, "last": result.last_student}),
    }
    taken = [
        {**named, "round": number, **dict(zip(ACTION_NAMES, action, strict=True))}
        for number, action in enumerate(result.actions.tolist(), 1)
        if trial.kind == PLANNER
    ]
    return trial.key, row, taken


def _act(env: FusionDistillEnv, trial: Trial) -> int:
    """Act to the end of a run, and return the rounds that were spent on copies."""
    schedule = agents.ActionSchedule(trial.start, trial.end, env.config.rounds)
    settings = _planner_settings(trial.settings, trial.start)
    planner: Any = agents.make("planner", env, seed=trial.stratum.seed, **settings) if trial.kind == PLANNER else None
    env.reset(seed=trial.stratum.seed)
    state = None
    for step in itertools.count():
        if planner is None:
            action = schedule.action(step)
        else:
            (action,), state = planner.plan(planner.env, state)
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    return 0 if planner is None else planner.planning_rounds


def _scores(task: DistillationTask, students: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    whole = task.report.images
    images = {"reward": whole.by_size(task.splits.reward), "report": whole.by_size(task.splits.report)}
    judge = SplitScores(task, images, METRICS)
    row: dict[str, float] = {}
    for which, state in students.items():
        student = build_student(dict(state), f"{which} student").to(task.device)
        row |= {f"{which}_{name}": value for name, value in judge.scores(student).items()}
    return row
