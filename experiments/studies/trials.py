"""Runs of constant actions, schedules and the planner, one row of numbers each; those that are done are read."""

import csv
import functools
import itertools
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import agents
from experiments.output import write_csv
from experiments.processes import end_with_parent, stop_pool
from experiments.studies.split_scores import SplitScores
from fusion_env.action import ACTION_NAMES, ACTION_SIZE
from fusion_env.cache import content_key
from fusion_env.config import MACHINE_ONLY, DistillConfig
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask, build_task, content_fingerprints
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
    "ends",
    "row_stratum",
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
        ConfigError: The directory holds rows of other settings, data or networks.
    """

    def __init__(self, config: DistillConfig, out: Path, workers: int = 1, progress: Progress = no_progress) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be at least 1. Got {workers}")
        self.config, self._progress = config, progress
        self._path, self._actions_path = out / "runs.csv", out / "planner.csv"
        self.rows, self.actions = _read(self._path), _read(self._actions_path)
        try:
            foreign = any(row["task"] != _task_key(config, row_stratum(row)) for row in self.rows)
            self._known = {(row["kind"], row["name"], row_stratum(row)): row for row in self.rows}
        except KeyError as error:
            raise ConfigError(f"{self._path} has no column {error}: choose another --out") from error
        if foreign:
            raise ConfigError(f"{self._path} holds runs of other settings, data or networks: choose another --out")
        # Spawned, not forked: threads of PyTorch do not come along.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, initializer=end_with_parent) if workers > 1 else None

    def run(self, trials: Sequence[Trial], title: str) -> list[Row]:
        """Return the rows of some trials, in their order; each is on disk as soon as it is there.

        Raises:
            ConfigError: A trial of the same kind, name and stratum had other actions.
        """
        missing = [trial for trial in trials if trial.key not in self._known]
        for _, (key, row, taken) in zip(self._progress(missing, title), self._finished(missing), strict=True):
            if taken:  # first: a row says that all is there
                self.actions = [old for old in self.actions if (old["kind"], old["name"], row_stratum(old)) != key]
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

    def _finished(self, trials: Sequence[Trial]) -> Iterator[Finished]:
        """Yield trials as they end."""
        jobs = [(self.config, trial) for trial in trials]
        if self._pool is None:
            yield from map(_run, jobs)
            return
        futures = [self._pool.submit(_run, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()

    def __enter__(self) -> "Trials":
        """Return the trials; their processes end with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            stop_pool(self._pool)

    def planned(self, row: Row) -> list[Row]:
        """Return the planner's actions, one row for each round, that belong to one of its rows."""
        keys = ("kind", "name", "seed", "stage0_seed", "data_seed")
        return [action for action in self.actions if all(action[key] == row[key] for key in keys)]


def row_stratum(row: Row) -> Stratum:
    """Return the seeds of a row."""
    return Stratum(row["seed"], row["stage0_seed"], row["data_seed"])


def ends(row: Row) -> tuple[Vector, Vector]:
    """Return the first and the last action of a row."""
    start, end = (tuple(row[f"{name}_{number}"] for number in ACTION_NAMES) for name in ("start", "end"))
    return start, end


def _read(path: Path) -> list[Row]:
    """Read rows exactly as they were written."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    if text in ("True", "False"):
        return text == "True"
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def _varied(config: DistillConfig, stratum: Stratum) -> DistillConfig:
    return config.replace(stage0_seed=stratum.stage0_seed, data_seed=stratum.data_seed)


@functools.cache
def _task_key(config: DistillConfig, stratum: Stratum) -> str:
    varied = _varied(config, stratum)
    settings = {name: value for name, value in varied.to_dict().items() if name not in MACHINE_ONLY}
    return content_key({"settings": settings, "fingerprints": content_fingerprints(varied)})[:12]


@functools.lru_cache(maxsize=2)
def _task(config: DistillConfig) -> DistillationTask:
    return build_task(config)


def _run(job: tuple[DistillConfig, Trial]) -> Finished:
    config, trial = job
    task = _task(_varied(config, trial.stratum).replace(self_learning=trial.kind != GUIDANCE_ONLY))
    begun = time.process_time()
    env = FusionDistillEnv.from_task(task)
    planning_rounds = _act(env, trial)
    seconds = time.process_time() - begun
    named = {"kind": trial.kind, "name": trial.name, **vars(trial.stratum)}
    result = env.last_run
    assert result is not None
    row = {
        "task": _task_key(config, trial.stratum),
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
    settings = {"start": list(trial.start), "anchors": [list(MOST_GUIDANCE)], **trial.settings}
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
