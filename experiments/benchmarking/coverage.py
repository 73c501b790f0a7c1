r"""Measure how often the intervals of benchmarks hold what they are about, at the numbers of starts that are used.

python experiments/benchmarking/coverage.py
python experiments/benchmarking/coverage.py --starts 5 10 --repeats 20000

Scores are drawn as a benchmark draws them: a start (a stage-0 student on a draw
of the data) moves all policies alike, and each policy by itself; a run adds its
own chance. Intervals are asked for the mean over all starts that there could be.
The results stand in docs/reference/benchmark-protocol.md.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarking.uncertainty import (
    holm,
    interquartile_mean,
    interval,
    middle_half,
    normalised_score,
    paired_difference,
    unit_interval,
)
from experiments.command_line import exit_on_error, make_parser
from experiments.output import markdown_table, print_or_write
from fusion_env.errors import ConfigError

__all__ = ["SHAPES", "coverage", "coverage_table", "main"]

STARTS = (2, 3, 4, 5, 6, 8, 10)
_POLICIES = 10
"""Compared with the control at once, where all of them are equal to it."""
_RUNS = 2
"""From each start, for the interval that knows runs only."""
_HEADROOM = 3.0
"""Gain of the best found, in standard deviations of a paired difference."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def _failing(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    failed = rng.random(size) < 0.05
    return np.where(failed, -4.0, rng.normal(size=size)) + 0.2


SHAPES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "skewed": lambda rng, size: 1 - rng.exponential(size=size),
    "5 % fail": _failing,
}
"""How a paired difference varies over starts; each has the mean 0 and a deviation of about 1."""


@dataclass(frozen=True)
class Coverage:
    """Shares of repeats.

    Attributes:
        shape: Of `SHAPES`.
        starts: Number of starts.
        paired: Student's interval of the mean paired difference holds 0.
        middle: The expanded interval of the interquartile mean holds it.
        better: The expanded interval of the share of starts with a gain holds it.
        score: The interval of the normalised score holds it, where there is one.
        runs_only: A plain percentile bootstrap of the runs within each start holds the mean: what it must not be.
        false_best: At least one of `_POLICIES` equal policies differs from the control by Holm's corrected 5 %.
        uncorrected: Likewise without the correction.
    """

    shape: str
    starts: int
    paired: float
    middle: float
    better: float
    score: float
    runs_only: float
    false_best: float
    uncorrected: float


def coverage(shape: str, starts: int, repeats: int, seed: int = 0) -> Coverage:
    """Simulate benchmarks, and count.

    Args:
        shape: Name in `SHAPES`.
        starts: Number of starts, 2 or more.
        repeats: Benchmarks; the intervals that are drawn are asked for in a tenth of them.
        seed: Of the simulation.
    """
    rng, draw = np.random.default_rng([seed, starts]), SHAPES[shape]
    population = draw(np.random.default_rng(1), (1_000_001,))
    middle_of_all, share_of_all = float(middle_half(population)), float((population > 0).mean())
    zeros = np.zeros(starts)
    paired, false_best, uncorrected = [], [], []
    for _ in range(repeats):
        ps = [paired_difference(scores, zeros).p for scores in draw(rng, (_POLICIES, starts))]
        false_best.append(min(holm(ps)) < 0.05)
        uncorrected.append(min(ps) < 0.05)
        paired.append(ps[0] >= 0.05)
    middle: list[bool] = []
    better: list[bool] = []
    score: list[bool] = []
    runs_only: list[bool] = []
    for _ in range(max(repeats // 10, 1)):
        gains, best = draw(rng, (starts,)), _HEADROOM + rng.normal(size=starts)
        found = unit_interval(middle_half, gains)
        middle.append(found.low <= middle_of_all <= found.high)
        won = unit_interval(lambda drawn: drawn.mean(axis=0), gains > 0)
        better.append(won.low <= share_of_all <= won.high)
        share = normalised_score(dict(enumerate(gains)), dict(enumerate(best)))
        if not np.isnan(share.value):
            score.append(share.low <= 0 <= share.high)
        runs = gains[:, None] + draw(rng, (starts, _RUNS))
        within = interval(interquartile_mean, list(runs), resamples=200)
        runs_only.append(within.low <= 0 <= within.high)
    shares = (paired, middle, better, score, runs_only, false_best, uncorrected)
    return Coverage(shape, starts, *(float(np.mean(share)) if share else np.nan for share in shares))


def coverage_table(rows: Sequence[Coverage]) -> str:
    """Write the shares as Markdown."""
    header = ["differences", "starts", "paired mean", "interquartile mean", "P(better)", "normalised score"]
    header += ["runs only", "false best", "uncorrected"]
    return markdown_table(header, [list(vars(row).values()) for row in rows], decimals=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    if min(args.starts) < 2 or args.repeats < 1:
        raise ConfigError(f"--starts must be 2 or more and --repeats 1 or more. Got {args.starts} and {args.repeats}")
    rows = [coverage(shape, starts, args.repeats) for shape in SHAPES for starts in args.starts]
    print_or_write(f"{coverage_table(rows)}\n", args.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("--starts", type=int, nargs="+", default=STARTS, help="numbers of starts (default: 2 to 10)")
    parser.add_argument("--repeats", type=int, default=4000, help="simulated benchmarks (default: 4000)")
    parser.add_argument("--out", type=Path, help="Markdown file (default: the screen)")
    return parser


if __name__ == "__main__":
    exit_on_error(main)
