"""Show that nothing piles up: many tiny rounds with resets, forks, snapshots and pictures, and what the process holds.

python experiments/measurements/soak.py --rounds 5000

Prints resident memory, open file handles and threads at intervals, and ends with status 1 where memory grew by 50 MB or
more, or handles or threads became more, after the first tenth of the rounds. Reads /proc, so it needs Linux.
"""

import gc
import os
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table
from fusion_env.action import ACTION_SIZE
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, MissingRequirementsError

__all__ = ["MAX_GROWTH_MB", "Reading", "growth", "main", "play_round", "soak"]

MAX_GROWTH_MB = 50.0

_PROCESS = Path("/proc/self")
_READINGS = 20
_ROUNDS_PER_RUN = 10
_FORK_EVERY = 7
_RENDER_EVERY = 5
# Allocators and lazily made parts of PyTorch take their share in the first rounds.
_WARM_UP_SHARE = 0.1


@dataclass(frozen=True)
class Reading:
    """What the process held after a number of rounds.

    Attributes:
        rounds: Rounds done, those of forks not counted.
        memory_mb: Resident memory, in units of 10^6 bytes.
        handles: Open file handles.
        threads: Threads.
    """

    rounds: int
    memory_mb: float
    handles: int
    threads: int


def soak(rounds: int, progress: Progress = no_progress) -> list[Reading]:
    """Step the tiny preset, and reset, fork, snapshot and render on the way.

    Every run has ten rounds; every seventh round a fork is stepped and thrown away, and the environment goes on from a
    snapshot of itself; every fifth round is rendered.

    Args:
        rounds: Rounds to do, at least 20.
        progress: Progress display.

    Returns:
        Readings at equal intervals, from the end of the first interval on.

    Raises:
        ConfigError: Too few rounds.
        MissingRequirementsError: There is no /proc.
    """
    if rounds < _READINGS:
        raise ConfigError(f"rounds must be at least {_READINGS}. Got {rounds}")
    if not (_PROCESS / "statm").exists():
        raise MissingRequirementsError("the soak test reads /proc/self, which this system does not have: use Linux")
    readings = []
    marks = {round(rounds * (mark + 1) / _READINGS) for mark in range(_READINGS)}
    actions = np.random.default_rng(0).uniform(-1, 1, (rounds, ACTION_SIZE))
    with tempfile.TemporaryDirectory() as cache:
        env = FusionDistillEnv(
            preset="tiny", render_mode="rgb_array", rounds=_ROUNDS_PER_RUN, threads=1, cache_dir=cache
        )
        over = True
        for done in progress(range(1, rounds + 1), "rounds"):
            over = play_round(env, actions[done - 1], done, over)
            if done in marks:
                readings.append(_read(done))
        env.close()
    return readings


def play_round(env: FusionDistillEnv, action: np.ndarray, number: int, reset: bool) -> bool:
    """Do one round and what is due with it; return whether the run is over."""
    if reset:
        env.reset(seed=number)
    if number % _FORK_EVERY == 0:
        env.fork(seed=number).step(-action)
        env.load_state_dict(env.state_dict())
    _, _, terminated, truncated, _ = env.step(action)
    if number % _RENDER_EVERY == 0:
        env.render()
    return terminated or truncated


def _read(rounds: int) -> Reading:
    gc.collect()
    pages = int((_PROCESS / "statm").read_text(encoding="utf-8").split()[1])
    handles, threads = (len(os.listdir(_PROCESS / folder)) for folder in ("fd", "task"))
    return Reading(rounds, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, handles, threads)


def growth(readings: Sequence[Reading]) -> list[str]:
    """Say what grew after the warm-up, the first tenth of the rounds.

    Args:
        readings: As `soak` returns them.

    Returns:
        One sentence for each thing that grew; none where all is well.
    """
    first, *later = [reading for reading in readings if reading.rounds >= _WARM_UP_SHARE * readings[-1].rounds]
    problems = []
    if max(reading.memory_mb for reading in later) - first.memory_mb >= MAX_GROWTH_MB:
        highest = max(reading.memory_mb for reading in later)
        problems.append(f"memory grew from {first.memory_mb:.0f} to {highest:.0f} MB")
    for name in ("handles", "threads"):
        before, after = getattr(first, name), max(getattr(reading, name) for reading in later)
        if after > before:
            problems.append(f"{name} grew from {before} to {after}")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if something grew."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5000, help=f"rounds to do, at least {_READINGS}")
    readings = soak(parser.parse_args(arguments).rounds, progress_bar)
    rows = map(astuple, readings)
    print(markdown_table(["rounds", "memory (MB)", "file handles", "threads"], rows, decimals=1))
    problems = growth(readings)
    print("; ".join(problems) or f"nothing grew (memory by less than {MAX_GROWTH_MB:.0f} MB)")
    return int(bool(problems))


if __name__ == "__main__":
    exit_on_error(main)
