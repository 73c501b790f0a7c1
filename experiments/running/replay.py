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
from experiments.running.recorded import Beginnings, open_recorded
from experiments.running.rounds import Row, round_row, row_action
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import DistillationTask
from student.weights import load_state

__all__ = ["Mismatch", "Replay", "check_tolerance", "replay", "same_number"]

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

    The environments are seeded as when the run was made; see `experiments.running.recorded.Beginnings`.

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
    check_tolerance(tolerance)
    recorded = open_recorded(run_dir, progress)
    config, rows = recorded.config, recorded.rows
    replayer = _Replayer(config, recorded.task)
    matched: dict[tuple[str, int], int] = {}
    played = (replayer.play(rows[index]) for index in progress(range(len(rows)), "rounds"))
    for row, new in zip(rows, played, strict=True):
        phase, run = row["phase"], int(row["run"])
        differing = _differences(row, new, tolerance)
        if differing:
            return Replay(matched, Mismatch(phase, run, int(row["round"]), differing), None)
        matched[phase, run] = matched.get((phase, run), 0) + 1
    summary, student = recorded.directory.summary.read(), recorded.directory.student
    # The student delivered is that of the last recorded run, unless the agent broke.
    complete = summary is not None and not summary["agent_diverged"]
    return Replay(matched, None, _same_student(replayer.delivered, student, tolerance) if complete else None)


class _Replayer:
    """Takes the recorded actions, each in an environment of its phase and student.

    Attributes:
        delivered: State dict of the student that the last run delivered; empty until it is over.
    """

    def __init__(self, config: RunConfig, task: DistillationTask) -> None:
        self._last_run = config.runs + config.eval_runs - 1
        self._beginnings = Beginnings(config, task)
        self._going_on: dict[tuple[str, int], tuple[int, FusionDistillEnv]] = {}
        self.delivered: dict[str, torch.Tensor] = {}

    def play(self, row: Row) -> Row:
        """Take the action of a row, and return the row that it gives now."""
        phase, run = row["phase"], int(row["run"])
        student = self._beginnings.student(phase, run)
        number, env = self._going_on.get(student, (None, None))
        if env is None or number != run:
            if env is not None and not env.run.over:
                return {**row, "run": "the run before goes on"}
            env = self._beginnings.reset(phase, run)
            self._going_on[student] = run, env
        if env.run.over:
            return {**row, "round": "the run is over"}
        _, reward, _, _, info = env.step(row_action(row))
        if run == self._last_run:
            self.delivered = env.run.best
        # Vector environments hand rewards on as float32.
        new = round_row(phase, run, row_action(row), float(np.float32(reward)), info)
        return {name: str(value) for name, value in new.items()}


def _differences(recorded: Row, new: Row, tolerance: float) -> dict[str, tuple[str, str]]:
    pairs = {name: (recorded.get(name, "absent"), new.get(name, "absent")) for name in (*_FIRST, *recorded, *new)}
    return {name: pair for name, pair in pairs.items() if not _same(*pair, tolerance)}


def _same(recorded: str, new: str, tolerance: float) -> bool:
    if recorded == new or not tolerance:
        return recorded == new
    try:
        return same_number(float(recorded), float(new), tolerance)
    except ValueError:
        return False


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that is none.

    Raises:
        ConfigError: It is below 0, infinite or NaN.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"tolerance must be a number of 0 or more. Got {tolerance}")


def same_number(recorded: float, new: float, tolerance: float) -> bool:
    """Tell whether two numbers differ by no more than the tolerance, absolute or relative."""
    return math.isclose(recorded, new, rel_tol=tolerance, abs_tol=tolerance)


def _same_student(new: dict[str, torch.Tensor], path: Path, tolerance: float) -> bool:
    recorded = load_state(path)
    return recorded.keys() == new.keys() and all(
        torch.allclose(tensor.cpu(), recorded[name], rtol=tolerance, atol=tolerance) for name, tensor in new.items()
    )
