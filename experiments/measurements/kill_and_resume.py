"""Kill runs with SIGKILL at random instants, resume them, and compare with runs that were never killed.

python experiments/measurements/kill_and_resume.py --algos reinforce ppo sac --kills 20

Every kill has a run of its own, on the preset `tiny`, and the instants are uniform over the length of the whole run,
set-up and ending included. A resumed run must have the same ``rounds.csv`` as the whole one, byte for byte, and the
same tensors of student and agent, optimisers included (`torch.equal`). The exit status is 1 where one has not. Needs a
POSIX system.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_row, markdown_table
from experiments.processes import keep_progress_bars_apart
from experiments.running.config import PROTOCOLS, RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.policies import run_config
from experiments.running.run import run
from fusion_env.data import Progress, no_progress
from fusion_env.errors import ConfigError, MissingRequirementsError
from student.weights import load_state

__all__ = ["Kill", "differences", "kill_and_resume", "main"]

_ROUNDS = 40
# Runs in which an agent that is frozen afterwards learns, and runs in which it is judged.
_ACROSS_RUNS = 2
# A run that ends before its kill, because the machine was slower when the whole one was timed, gets another instant.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Kill:
    """What came of one kill.

    Attributes:
        rounds: Rounds on record when it came.
        checkpoints: Checkpoints there were.
        differences: What the resumed run has otherwise than the whole one, in words; none where all is well.
    """

    rounds: int
    checkpoints: int
    differences: tuple[str, ...]


def kill_and_resume(config: RunConfig, kills: int, folder: Path, progress: Progress = no_progress) -> list[Kill]:
    """Run a configuration once as a whole, and again for every kill.

    Args:
        config: What to run, with a fixed number of threads and a cache folder.
        kills: How many kills, at least 1.
        folder: Gets the directories of the runs.
        progress: Progress display over the kills.

    Raises:
        ConfigError: Too few kills.
        MissingRequirementsError: The system has no SIGKILL.
    """
    if kills < 1:
        raise ConfigError(f"kills must be at least 1. Got {kills}")
    if os.name != "posix":
        raise MissingRequirementsError("killing needs SIGKILL, which this system does not have: use Linux or macOS")
    whole = folder / "whole"
    _finish(config, folder / "warm-up")  # fills the cache, so that the time of the whole run is that of the others
    began = time.monotonic()
    _finish(config, whole)
    duration_s = time.monotonic() - began
    directories, results = (folder / f"killed-{number}" for number in itertools.count()), []
    for _ in progress(range(kills), f"kills of {config.agent}"):
        killed = _killed(config, duration_s, directories)
        directory = RunDirectory(killed)
        rounds = len(directory.rounds.read()) if directory.rounds.path.exists() else 0
        checkpoints = len(directory.checkpoints())
        _finish(config, killed)
        results.append(Kill(rounds, checkpoints, differences(whole, killed, config.agent)))
    return results


def _killed(config: RunConfig, duration_s: float, directories: Iterator[Path]) -> Path:
    """Kill a run at a random instant and return its directory."""
    for run_dir in itertools.islice(directories, _ATTEMPTS):
        process = _start(config, run_dir)
        process.join(random.uniform(0, duration_s))
        process.kill()
        process.join()
        if not RunDirectory(run_dir).is_finished:
            return run_dir
    raise ConfigError(f"{_ATTEMPTS} runs ended before they were killed: set more rounds")


def _finish(config: RunConfig, run_dir: Path) -> None:
    process = _start(config, run_dir)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the run in {run_dir} ended with status {process.exitcode}")


def _start(config: RunConfig, run_dir: Path) -> BaseProcess:
    # Forks of a process that has imported everything: most kills would otherwise meet an import.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(config, run_dir))
    process.start()
    return process


def _run(config: RunConfig, run_dir: Path) -> None:
    keep_progress_bars_apart()
    # Forks share their first random state, which would hide that a run depends on it.
    random.seed(), np.random.seed(), torch.seed()
    run(config, run_dir)


def differences(whole: Path, resumed: Path, agent: str) -> tuple[str, ...]:
    """Compare two finished runs.

    Args:
        whole: Directory of the one.
        resumed: Directory of the other.
        agent: Name of the agent of both.

    Returns:
        What differs, in words; empty where nothing does.
    """
    found, ours, theirs = [], RunDirectory(resumed), RunDirectory(whole)
    rows, expected = (directory.rounds.path.read_bytes().splitlines() for directory in (ours, theirs))
    if rows != expected:
        pairs = enumerate(zip(rows, expected, strict=False))
        first = next((i for i, (a, b) in pairs if a != b), min(len(rows), len(expected)))
        found.append(f"{ours.rounds.path.name} from row {first} on")
    if not _equal(load_state(ours.student), load_state(theirs.student)):
        found.append(ours.student.name)
    if not _equal(_parameters(ours.agent, agent), _parameters(theirs.agent, agent)):
        found.append(ours.agent.name)
    found += [f"{path.name} is left over" for path in ours.partial_files()]
    return tuple(found)


def _parameters(path: Path, agent: str) -> dict[str, Any]:
    return agents.algorithm(agent).load(path).get_parameters()


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def _config(algo: str, args: argparse.Namespace, cache: Path) -> RunConfig:
    across = args.protocol == "across"
    rounds = args.rounds // _ACROSS_RUNS if across else args.rounds
    return run_config(
        algo,
        "tiny",
        {"rounds": rounds, "threads": 1, "cache_dir": str(cache)},
        protocol=args.protocol,
        runs=_ACROSS_RUNS if across else 1,
        eval_runs=_ACROSS_RUNS if across else 0,
        normalize=args.normalize,
        details=False,
    )


def _line(algo: str, kills: Iterable[Kill]) -> str:
    rounds = [kill.rounds for kill in kills]
    resumed = sum(kill.checkpoints > 0 for kill in kills)
    unequal = sum(bool(kill.differences) for kill in kills)
    return markdown_row([algo, len(rounds), f"{min(rounds)}-{max(rounds)}", resumed, unequal])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a resumed run is not equal."""
    parser = make_parser(__doc__)
    parser.add_argument("--algos", nargs="+", default=["reinforce", "ppo", "sac"], help="agents")
    parser.add_argument("--kills", type=int, default=20, help="kills of each agent")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="rounds in which each agent learns")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="across: kills meet runs of the frozen agent, too"
    )
    parser.add_argument("--normalize", action="store_true", help="with VecNormalize")
    args = parser.parse_args(arguments)
    problems = []
    titles = ["agent", "kills", "rounds on record when killed", "resumed from a checkpoint", "unequal"]
    print(markdown_table(titles, []))
    for algo in args.algos:
        with tempfile.TemporaryDirectory() as folder:
            config = _config(algo, args, Path(folder, "cache"))
            kills = kill_and_resume(config, args.kills, Path(folder), progress_bar)
        print(_line(algo, kills), flush=True)
        problems += [
            f"{algo}, killed after {kill.rounds} rounds: {what}" for kill in kills for what in kill.differences
        ]
    print("\n".join(problems) or "every resumed run ended as the one that was never killed")
    return int(bool(problems))


if __name__ == "__main__":
    exit_on_error(main)
