"""The grid of a benchmark: which runs there are, and where each lies."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agents
from experiments.benchmarking.executors import Job
from experiments.running.policies import policy_setup, run_config
from fusion_env import tasks, teachers
from fusion_env.config import MACHINE_ONLY, DistillConfig
from fusion_env.errors import ConfigError, unknown_name

__all__ = [
    "CONTROL",
    "LONG_CONTROL",
    "NOT_TOLD",
    "TUNING_SEEDS_FROM",
    "Cell",
    "Grid",
    "parse_seeds",
    "settings_by_policy",
]

TUNING_SEEDS_FROM = 1000
"""Seeds from here on are for choosing settings, those below for reporting: of runs, starts and draws of the data."""

CONTROL = "guidance-only"
"""The policy that the others are compared with, run by run."""
LONG_CONTROL = "guidance-only-long"
"""The control under `across` in one run of as many rounds as a learner has for learning and one student."""


NOT_TOLD = (*MACHINE_ONLY, "data_root")
"""Settings that belong to the machine: no row names them."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid and what it varies."""

    policy: str
    teacher: str
    data: str
    seed: int
    stage0_seed: int
    job: Job
    data_seed: int = 0

    @property
    def is_tuning(self) -> bool:
        """Whether this run is for choosing settings, so that its scores on the report split are nobody's business."""
        return self.seed >= TUNING_SEEDS_FROM


@dataclass(frozen=True)
class Grid:
    """Policies on tasks, with equal rounds for all.

    Attributes:
        protocol: ``"online"`` or ``"across"``.
        policies: Names for `policy_setup`, or `LONG_CONTROL`.
        teachers: ``NAME`` or ``NAME=WEIGHTS`` each; empty means the task's teacher.
        data: Folders, or ``"procedural"``; empty means the task's data.
        seeds: Seeds of agent and environment.
        stage0_seeds: Seeds of the stage-0 student.
        data_seeds: Draws of the data: scenes, splits, crops; empty means the task's. They and `stage0_seeds` take turns
            over `seeds`, so that all combinations come before one comes again.
        preset: Starting point of the settings.
        task: Name of the task whose settings go over the preset's; None for the preset as it is.
        settings: Fields of `DistillConfig` that differ from both.
        runs: Learning runs; policies that do not learn have none under `across`.
        eval_runs: Runs of the frozen policy (`across`).
        agent_settings: For some of the policies, settings of the agent that differ from the policy's own.
    """

    protocol: str
    policies: tuple[str, ...]
    teachers: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    seeds: tuple[int, ...] = tuple(range(10))
    stage0_seeds: tuple[int, ...] = (0, 1, 2)
    data_seeds: tuple[int, ...] = ()
    preset: str = "bench"
    task: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 1
    eval_runs: int = 0
    agent_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("policies", "seeds", "stage0_seeds"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must name one or more. Got none")
        for name in ("policies", "seeds", "stage0_seeds", "data_seeds", "teachers", "data"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigError(f"{name} must name each once. Got {values}")
        for name in {"random-search", LONG_CONTROL} & set(self.policies):
            if self.protocol == "online":
                raise ConfigError(f"{name} needs learning runs that others have: it exists only with protocol 'across'")
        if self.runs < 1:
            raise ConfigError(f"runs must be at least 1. Got {self.runs}")
        self._check_seeds()

    def _check_seeds(self) -> None:
        if min(self.seeds) < TUNING_SEEDS_FROM <= max(self.seeds):
            raise ConfigError(
                f"seeds {self.seeds} mix reporting (below {TUNING_SEEDS_FROM}) and tuning (from it on): "
                "settings must not be chosen on the seeds that are reported"
            )
        for name in ("stage0_seeds", "data_seeds"):
            values = getattr(self, name)
            if self.is_tuning and not (values and min(values) >= TUNING_SEEDS_FROM):
                raise ConfigError(
                    f"tuning seeds {self.seeds} need {name} from {TUNING_SEEDS_FROM} on, too: settings must not be "
                    f"chosen on the starts and the data that are reported. Got {values}"
                )
            if not self.is_tuning and values and max(values) >= TUNING_SEEDS_FROM:
                raise ConfigError(f"{name} from {TUNING_SEEDS_FROM} on are for tuning, seeds {self.seeds} report")

    @property
    def is_tuning(self) -> bool:
        """Whether the seeds are for choosing settings, so that the results must not be reported."""
        return self.seeds[0] >= TUNING_SEEDS_FROM

    @property
    def base(self) -> DistillConfig:
        """What all runs have in common, but for what the grid varies.

        Raises:
            FusionEnvError: A setting is out of range, or there is no such preset or task.
        """
        return tasks.config(self.task, self.preset, **self.settings)

    @property
    def start(self) -> str:
        """Say what the settings start from, for people."""
        return tasks.described(self.base, self.task, self.preset)

    @property
    def told_settings(self) -> str:
        """What differs from task and preset, but for what belongs to the machine, as JSON."""
        told = {name: value for name, value in self.settings.items() if name not in NOT_TOLD}
        return json.dumps(told, sort_keys=True)

    def cells(self, out: Path) -> list[Cell]:
        """Return all runs in a fixed order, each with its directory under `out`.

        Raises:
            FusionEnvError: A setting is out of range, there is no such policy, teacher or setting of an agent, or two
                of them have names that make the same name of a folder.
        """
        base = self.base
        for policy, settings in self.agent_settings.items():
            _check_settings(policy, settings, self.policies, base)
        cells = []
        for teacher in self.teachers or (_label(base.teacher, base.teacher_weights),):
            teachers.get(teacher.partition("=")[0])  # now, not when half of the grid is done
            for data in self.data or (base.data,):
                for policy in self.policies:
                    for seed, (stage0_seed, data_seed) in zip(self.seeds, self._starts(base), strict=True):
                        cells.append(self._cell(out, policy, teacher, data, seed, stage0_seed, data_seed))
        folders: dict[Path, Cell] = {}
        for cell in cells:
            other = folders.setdefault(cell.job.run_dir, cell)
            if other is not cell:
                both = (f"{one.policy} ({one.teacher}, {one.data})" for one in (other, cell))
                raise ConfigError(f"{' and '.join(both)} would share {cell.job.run_dir}: give a file another name")
        return cells

    def _starts(self, base: DistillConfig) -> list[tuple[int, int]]:
        """Return seed of stage 0 and draw of the data for each of `seeds`."""
        draws, starts = self.data_seeds or (base.data_seed,), self.stage0_seeds
        if base.stage0_rounds == 0 and base.student_init != "random":
            starts = starts[:1]  # the seed would make no difference, and equal starts pass for several
        both = math.lcm(len(draws), len(starts))
        # After `both` the same pairs would come again: one of the two moves on.
        return [
            (starts[(index + index // both) % len(starts)], draws[index % len(draws)])
            for index in range(len(self.seeds))
        ]

    def _cell(
        self, out: Path, policy: str, teacher: str, data: str, seed: int, stage0_seed: int, data_seed: int
    ) -> Cell:
        name, _, weights = teacher.partition("=")
        varied: dict[str, Any] = {"teacher": name, "teacher_weights": weights or None, "data": data}
        varied |= {"stage0_seed": stage0_seed, "data_seed": data_seed}
        eval_runs = self.eval_runs
        if policy == LONG_CONTROL:
            varied, eval_runs = varied | {"rounds": self.base.rounds * (self.runs + 1)}, 1
        config = run_config(
            CONTROL if policy == LONG_CONTROL else policy,
            self.preset,
            {**self.settings, **varied},
            task=self.task,
            learning_runs=self.runs,
            agent_settings=self.agent_settings.get(policy),
            protocol=self.protocol,
            eval_runs=eval_runs,
            seed=seed,
            details=False,
        )
        teacher_label = _shortest(name, teacher, [other.partition("=")[0] for other in self.teachers])
        data_label = _shortest(Path(data).name, data, [Path(other).name for other in self.data])
        folder = "-".join(_file_name(part) for part in (policy, teacher_label, data))
        job = Job(config, out / "runs" / folder / f"{seed}")
        return Cell(policy, teacher_label, data_label, seed, stage0_seed, job, data_seed)


def _check_settings(policy: str, settings: Mapping[str, Any], policies: Sequence[str], base: DistillConfig) -> None:
    if policy not in policies:
        raise unknown_name("policy with settings in this benchmark", policy, policies)
    try:
        agents.check_settings(policy_setup(CONTROL if policy == LONG_CONTROL else policy, base).agent, settings)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"settings of {policy}: {error}") from error


def _shortest(short: str, full: str, others: Sequence[str]) -> str:
    """Return the short form of a name, unless two of them have the same."""
    return full if others.count(short) > 1 else short


def _label(teacher: str, weights: str | None) -> str:
    return teacher if weights is None else f"{teacher}={weights}"


def _file_name(text: str) -> str:
    """Return a name for a file or folder from that of a policy, teacher or data set, which may be a path."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_.") or "x"


def parse_seeds(texts: Sequence[str]) -> tuple[int, ...]:
    """Read seeds such as ``0-9`` or ``1 5 7``.

    Raises:
        ConfigError: A word is neither a number nor a range that goes upwards.

    >>> parse_seeds(["0-2", "7"])
    (0, 1, 2, 7)
    """
    seeds: list[int] = []
    for text in texts:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if match is None:
            raise ConfigError(f"seeds must be numbers or ranges such as 0-9. Got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(f"the range of seeds {text!r} ends before it begins: write {last}-{first}")
        seeds += range(first, last + 1)
    return tuple(seeds)


def settings_by_policy(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort settings of agents by policy.

    Raises:
        ConfigError: One does not name its policy.

    >>> settings_by_policy({"ppo.n_steps": 5, "mine.py:Steady.level": 0.5, "ppo.gamma": 0.9})
    {'ppo': {'n_steps': 5, 'gamma': 0.9}, 'mine.py:Steady': {'level': 0.5}}
    """
    sorted_by_policy: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        policy, _, setting = name.rpartition(".")
        if not policy:
            raise ConfigError(f"settings of agents are given as ALGO.NAME=VALUE, such as ppo.n_steps=5. Got {name!r}")
        sorted_by_policy.setdefault(policy, {})[setting] = value
    return sorted_by_policy
