"""Replay a run: its actions on a fresh environment must give its rounds.csv.

python experiments/replay.py runs/NAME
# A run of another machine.
python experiments/replay.py runs/NAME --tolerance 1e-3
# The rows of a benchmark, or of a submission to the leaderboard.
python experiments/replay.py --check runs/BENCHMARK

Neither the agent nor its random streams are used: a finished run, an unfinished
one, or one that diverged is rebuilt from config.json and the actions alone. The
exit status is 1 at the first round that differs.

--check plays actions.csv on the tasks that raw.csv names, and compares the
scores of the students with its columns. The exit status is 1 where one differs.
"""

import argparse
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.benchmarking.grid import CONTROL, LONG_CONTROL, parse_seeds
from experiments.benchmarking.submission import Action, Submission, Submitted, read_submission
from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.running.judged_again import judged_again
from experiments.running.replay import check_tolerance, replay, same_number
from fusion_env import tasks
from fusion_env.config import DistillConfig
from fusion_env.errors import ConfigError, FusionEnvError
from fusion_env.task import build_task

__all__ = ["check", "command", "main", "replay"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 where everything is as recorded, 1 where something differs.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    if (args.run_dir is None) == (args.check is None):
        parser.error("give the directory of a run, or --check DIR")
    if args.check is None:
        found = replay(args.run_dir, tolerance=args.tolerance, progress=progress_bar)
        print(found)
        return 0 if found.equal else 1
    equal = True
    lines = parse_seeds(args.lines) if args.lines else None
    places = {"data_root": args.data_root, "teacher_weights": args.teacher_weights}
    for row, differing in check(args.check, args.tolerance, lines, places):
        print(f"{row}: {'differs' if differing else 'as recorded'}", flush=True)
        for name, (old, new) in differing.items():
            print(f"  {name}: recorded {old}, replayed {new}")
        equal = equal and not differing
    return 0 if equal else 1


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("run_dir", type=Path, nargs="?", metavar="RUN_DIR", help="directory of a run")
    parser.add_argument("--check", type=Path, metavar="DIR", help="folder with raw.csv and actions.csv of a benchmark")
    parser.add_argument(
        "--lines", nargs="+", metavar="N", help="lines of raw.csv to check, such as 2-11 (default: all)"
    )
    parser.add_argument("--data-root", metavar="DIR", help="where the data set of a task lies, for --check")
    parser.add_argument("--teacher-weights", metavar="FILE", help="where the teacher's weights lie, for --check")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="largest difference that counts as none, absolute or relative, for runs of other machines (default: 0)",
    )
    return parser


def check(
    folder: Path,
    tolerance: float = 0.0,
    lines: tuple[int, ...] | None = None,
    places: Mapping[str, str | None] = MappingProxyType({}),
) -> Iterator[tuple[Submitted, dict[str, tuple[float, float]]]]:
    """Play the actions of a submission, and compare what comes of them with its rows.

    Args:
        folder: Holds ``raw.csv`` and ``actions.csv``.
        tolerance: As for `replay`.
        lines: Lines of ``raw.csv``; None for all.
        places: Settings of a task that say where its files lie; None where they lie as usual.

    Yields:
        Each row, and the recorded and replayed values of the columns that differ.

    Raises:
        ConfigError: A file is damaged, a row is of other data than the task's, there is nothing to check, or
            the tolerance is out of range.
    """
    check_tolerance(tolerance)
    submission = read_submission(folder)
    actions = submission.actions()
    rows = [row for row in submission.rows if lines is None or row.line in lines]
    if not rows:
        raise ConfigError(f"{submission.path} has none of the lines {lines}: they go from 2 on")
    for row in rows:
        try:
            differing = _differing(row, actions.get(Submission.actions_of(row), []), tolerance, places)
        except FusionEnvError as error:
            raise ConfigError(f"{submission.path}, {row}: {error}") from error
        yield row, differing


_task = lru_cache(maxsize=4)(build_task)  # of the same start there are often several rows in turn


def _differing(
    row: Submitted, runs: list[list[Action]], tolerance: float, places: Mapping[str, str | None]
) -> dict[str, tuple[float, float]]:
    task = _task(_config(row, places))
    for name in ("data", "teacher"):
        recorded, here = row.values[f"{name}_fingerprint"], task.fingerprints[name]
        if recorded != here:
            raise ConfigError(f"it was made with another {name} ({recorded}) than the task has here ({here})")
    new = judged_again(task, protocol=row.values["protocol"], seed=row.values["seed"], runs=runs)
    pairs = {name: (row.values[name], value) for name, value in new.items()}
    return {name: pair for name, pair in pairs.items() if not same_number(*pair, tolerance)}


def _config(row: Submitted, places: Mapping[str, str | None]) -> DistillConfig:
    own: dict[str, Any] = {name: row.values[name] for name in ("rounds", "stage0_seed", "data_seed", "teacher")}
    if row.values["policy"] in (CONTROL, LONG_CONTROL):
        own["self_learning"] = False
    own |= {name: place for name, place in places.items() if place is not None}
    settings = {**row.settings, "threads": 1, **own}
    return tasks.config(row.values["task"], row.values["preset"], **settings)


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
