"""Replay a run: the recorded actions on a fresh environment must give what ``rounds.csv`` holds.

python experiments/replay.py runs/NAME
python experiments/replay.py runs/NAME --tolerance 1e-3   # a run of another machine

Neither the agent nor its random streams are used: a finished run, an unfinished one, or one that diverged is rebuilt
from ``config.json`` and the actions alone. The exit status is 1 at the first round that differs.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from experiments.command_line import exit_on_error, progress_bar
from experiments.running.config import RunConfig, read_config
from experiments.running.judge import frozen_seed
from experiments.running.result import read_result
from experiments.running.rounds import read_rounds, round_row
from fusion_env.action import ACTION_NAMES
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import build_task
from student.weights import load_state

__all__ = ["Mismatch", "Replay", "main", "replay"]

SUMMARY_FILE, STUDENT_FILE = "summary.json", "student.safetensors"
_FIRST = ("reward", "gap", "loss_guidance", "loss_self_learning", "loss_total")

Row = dict[str, str]


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
        student: Whether the last student is the one in ``student.safetensors``; None where it was not compared, since
            the run is unfinished, its agent broke, or a round differs.
    """

    matched: dict[tuple[str, int], int]
    mismatch: Mismatch | None
    student: bool | None

    @property
    def equal(self) -> bool:
        """Whether everything that was compared is equal."""
        return self.mismatch is None and self.student is not False


def replay(run_dir: Path, *, tolerance: float = 0.0, progress: Progress = no_progress) -> Replay:
    """Replay the runs in a directory, and compare every column of every round, up to the first that differs.

    The environment is seeded as when the run was made: once for all runs in which the agent learned, and anew for each
    run of the frozen agent.

    Args:
        run_dir: Directory of a run; it is only read.
        tolerance: Largest difference of two numbers, absolute or relative, that counts as none; 0 wants the same
            digits. Differences grow from round to round, since each one trains on what the one before left.
        progress: Progress display, over the set-up and the rounds.

    Raises:
        ConfigError: The directory holds no run, or its ``rounds.csv`` is damaged; the tolerance is out of range.
        FusionEnvError: Data or weights of the run are missing.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"tolerance must be a number of 0 or more. Got {tolerance}")
    config, rows = read_config(run_dir), _read_rows(run_dir)
    env = FusionDistillEnv.from_task(build_task(config.env, progress))
    matched: dict[tuple[str, int], int] = {}
    for row, new in zip(rows, _replayed(config, env, progress(rows, "rounds")), strict=True):
        phase, run = row["phase"], int(row["run"])
        differing = _differences(row, new, tolerance)
        if differing:
            return Replay(matched, Mismatch(phase, run, int(row["round"]), differing), None)
        matched[phase, run] = matched.get((phase, run), 0) + 1
    student = _same_student(env, run_dir / STUDENT_FILE, tolerance) if _is_complete(run_dir) else None
    return Replay(matched, None, student)


def _read_rows(run_dir: Path) -> list[Row]:
    """Read the rounds that are whole: a crash of the machine can leave a part of the last one."""
    path = run_dir / "rounds.csv"
    try:
        rows = read_rounds(run_dir)
        whole = rows if path.read_bytes().endswith(b"\n") else rows[:-1]
        for row in whole:
            int(row["run"]), int(row["round"]), _action(row)
            if None in row or None in row.values():
                raise ValueError(f"row {whole.index(row) + 1} has too many or too few columns")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: no round of this run was finished") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{path} is damaged ({error})") from error
    if not whole:
        raise ConfigError(f"{path} holds no finished round")
    return whole


def _action(row: Row) -> list[float]:
    return [float(row[f"action_{name}"]) for name in ACTION_NAMES]


def _replayed(config: RunConfig, env: FusionDistillEnv, rows: Iterable[Row]) -> Iterator[Row]:
    """Take the recorded actions, and yield the row that each round gives now."""
    over, seed = True, config.seed
    for (phase, run), group in groupby(rows, lambda row: (row["phase"], int(row["run"]))):
        if not over:
            yield {**next(group), "run": "the run before goes on"}
            return
        env.reset(seed=frozen_seed(config.seed, run - config.runs) if phase == "evaluate" else seed)
        seed = None  # the next learning run continues the environment's own stream
        over = False
        for row in group:
            if over:
                yield {**row, "round": "the run is over"}
                return
            _, reward, terminated, truncated, info = env.step(_action(row))
            over = terminated or truncated
            # Vector environments hand rewards on as float32.
            new = round_row(phase, run, _action(row), float(np.float32(reward)), info)
            yield {name: str(value) for name, value in new.items()}


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


def _is_complete(run_dir: Path) -> bool:
    """Tell whether the last student is that of the last recorded round, as it is unless the agent broke."""
    path = run_dir / SUMMARY_FILE
    return path.exists() and not read_result(path, dict).get("agent_diverged")


def _same_student(env: FusionDistillEnv, path: Path, tolerance: float) -> bool:
    recorded, new = load_state(path), env.student.state_dict()
    return recorded.keys() == new.keys() and all(
        torch.allclose(tensor.cpu(), recorded[name], rtol=tolerance, atol=tolerance) for name, tensor in new.items()
    )


def _report(found: Replay) -> str:
    lines = [f"{phase} run {run}: {rounds} rounds as recorded" for (phase, run), rounds in found.matched.items()]
    if found.mismatch is not None:
        at = found.mismatch
        lines.append(f"{at.phase} run {at.run}, round {at.round} differs from what was recorded:")
        lines += [f"  {name}: recorded {old}, replayed {new}" for name, (old, new) in at.values.items()]
        return "\n".join(lines)
    words = {
        None: "not compared (the run is unfinished, or its agent broke)",
        True: "as recorded",
        False: f"not the one in {STUDENT_FILE}",
    }
    lines.append(f"student: {words[found.student]}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 where everything is as recorded, 1 where something differs.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="directory of a run")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="largest difference that counts as none, absolute or relative, for runs of other machines (default: 0)",
    )
    args = parser.parse_args(arguments)
    found = replay(args.run_dir, tolerance=args.tolerance, progress=progress_bar)
    print(_report(found))
    return 0 if found.equal else 1


if __name__ == "__main__":
    exit_on_error(lambda: main(sys.argv[1:]))
