"""Replay a run: the recorded actions on a fresh environment must give the rounds that were recorded.

Neither the agent nor its random streams are used: a finished run, an unfinished one, or one that diverged is rebuilt
from its configuration and the actions alone.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.judge import frozen_seed
from experiments.running.rounds import RoundsFile, Row, round_row
from fusion_env.action import ACTION_NAMES
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.identity import differences
from fusion_env.task import DistillationTask, build_task
from student.weights import load_state

__all__ = ["Mismatch", "Replay", "replay"]

_FIRST = ("reward", "gap", "loss_guidance", "loss_self_learning", "loss_total")


@dataclass(frozen=True)
class Mismatch:
    """The first round that came out otherwise.

    Attributes:
        phase: ``"learn"``, or ``"evaluate"`` for a frozen agent.
        run: Number of the run, from 0.
        round: Number of the round in it, from 1.
        values: Recorded and replayed value of every column that differs, reward, gap and losses first.
    """

    phase: str
    run: int
    round: int
    values: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Attributes:
        matched: Rounds that came out as recorded, by phase and run, in order.
        mismatch: The first round that did not; None where all did.
        student: Whether the student delivered is the one in ``student.safetensors``; None where it was not compared,
            since the run is unfinished, its agent broke, or a round differs.
    """

    matched: dict[tuple[str, int], int]
    mismatch: Mismatch | None
    student: bool | None

    @property
    def equal(self) -> bool:
        """Whether everything that was compared is equal."""
        return self.mismatch is None and self.student is not False

    def __str__(self) -> str:
        lines = [f"{phase} run {run}: {rounds} rounds as recorded" for (phase, run), rounds in self.matched.items()]
        if self.mismatch is None:
            words = {
                None: "not compared (the run is unfinished, or its agent broke)",
                True: "as recorded",
                False: "not the one in student.safetensors",
            }
            lines.append(f"student: {words[self.student]}")
        else:
            at = self.mismatch
            lines.append(f"{at.phase} run {at.run}, round {at.round} differs from what was recorded:")
            lines += [f"  {name}: recorded {old}, replayed {new}" for name, (old, new) in at.values.items()]
        return "\n".join(lines)


def replay(run_dir: Path, *, tolerance: float = 0.0, progress: Progress = no_progress) -> Replay:
    """Replay the runs in a directory, and compare every column of every round, up to the first that differs.

    The environments are seeded as when the run was made: once for all runs of a student in which the agent learned, and
    anew for each run of the frozen agent.

    Args:
        run_dir: Directory of a run; it is only read.
        tolerance: Largest difference of two numbers, absolute or relative, that counts as none; 0 wants the same
            digits. Differences grow from round to round, since each one trains on what the one before left.
        progress: Progress display, over the set-up and the rounds.

    Raises:
        ConfigError: The directory holds no run, or its ``rounds.csv`` is damaged; data or networks have another content
            than those that the run was made with; the tolerance is out of range.
        FusionEnvError: Data or weights of the run are missing.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"tolerance must be a number of 0 or more. Got {tolerance}")
    directory = RunDirectory(run_dir)
    config, rows = directory.read_config(), _read_rows(directory.rounds)
    task = build_task(config.env, progress)
    changed = differences((config.env, directory.recorded_fingerprints()), (config.env, task.fingerprints))
    if changed:
        raise ConfigError(f"{run_dir} cannot be replayed, since it was made with other content: {changed}. Restore it")
    replayer = _Replayer(config, task)
    matched: dict[tuple[str, int], int] = {}
    recorded = (rows[index] for index in progress(range(len(rows)), "rounds"))
    for row, new in zip(rows, map(replayer.play, recorded), strict=True):
        phase, run = row["phase"], int(row["run"])
        differing = _differences(row, new, tolerance)
        if differing:
            return Replay(matched, Mismatch(phase, run, int(row["round"]), differing), None)
        matched[phase, run] = matched.get((phase, run), 0) + 1
    summary = directory.summary.read()
    # The student delivered is that of the last recorded run, unless the agent broke.
    complete = summary is not None and not summary["agent_diverged"]
    return Replay(matched, None, _same_student(replayer.delivered, directory.student, tolerance) if complete else None)


def _read_rows(file: RoundsFile) -> list[Row]:
    try:
        rows = file.read()
        for number, row in enumerate(rows, 1):
            int(row["run"]), int(row["round"]), _action(row)
            if None in row or None in row.values():
                raise ValueError(f"row {number} has too many or too few columns")
    except FileNotFoundError as error:
        raise ConfigError(f"{file.path} does not exist: no round of this run was finished") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{file.path} is damaged ({error})") from error
    if not rows:
        raise ConfigError(f"{file.path} holds no finished round")
    return rows


def _action(row: Row) -> list[float]:
    return [float(row[f"action_{name}"]) for name in ACTION_NAMES]


class _Replayer:
    """Takes the recorded actions, each in an environment of its phase and student.

    Attributes:
        delivered: State dict of the student that the last run delivered; empty until it is over.
    """

    def __init__(self, config: RunConfig, task: DistillationTask) -> None:
        self._config, self._task = config, task
        self._envs: dict[tuple[str, int], FusionDistillEnv] = {}
        self._runs: dict[tuple[str, int], int] = {}
        self.delivered: dict[str, torch.Tensor] = {}

    def play(self, row: Row) -> Row:
        """Take the action of a row, and return the row that it gives now."""
        phase, run = row["phase"], int(row["run"])
        key = (phase, run % self._config.num_envs if phase == "learn" else 0)
        if self._runs.get(key) != run:
            if key in self._envs and not self._envs[key].run.over:
                return {**row, "run": "the run before goes on"}
            self._reset(key, run)
        env = self._envs[key]
        if env.run.over:
            return {**row, "round": "the run is over"}
        _, reward, _, _, info = env.step(_action(row))
        if run == self._config.runs + self._config.eval_runs - 1:
            self.delivered = env.run.best
        # Vector environments hand rewards on as float32.
        new = round_row(phase, run, _action(row), float(np.float32(reward)), info)
        return {name: str(value) for name, value in new.items()}

    def _reset(self, key: tuple[str, int], run: int) -> None:
        phase, student = key
        if phase == "evaluate":
            seed: int | None = frozen_seed(self._config.seed, run - self._config.runs)
        else:  # a student's later runs continue the environment's own stream
            seed = None if key in self._envs else self._config.seed + student
        env = self._envs.setdefault(key, FusionDistillEnv.from_task(self._task))
        env.reset(seed=seed)
        self._runs[key] = run


def _differences(recorded: Row, new: Row, tolerance: float) -> dict[str, tuple[str, str]]:
    pairs = {name: (recorded.get(name, "absent"), new.get(name, "absent")) for name in (*_FIRST, *recorded, *new)}
    return {name: pair for name, pair in pairs.items() if not _same(*pair, tolerance)}


def _same(recorded: str, new: str, tolerance: float) -> bool:
    if recorded == new or not tolerance:
        return recorded == new
    try:
        a, b = float(recorded), float(new)
    except ValueError:
        return False
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def _same_student(new: dict[str, torch.Tensor], path: Path, tolerance: float) -> bool:
    recorded = load_state(path)
    return recorded.keys() == new.keys() and all(
        torch.allclose(tensor.cpu(), recorded[name], rtol=tolerance, atol=tolerance) for name, tensor in new.items()
    )
