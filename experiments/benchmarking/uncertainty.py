"""Summaries of few runs with their uncertainty.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021.

The scores of one policy come as strata: one array for each cell of the design that is not the policy's doing (stage-0
student, teacher, data). Bootstrap samples are drawn inside each stratum, so that its share never varies.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "interquartile_mean", "interval", "make_strata", "probability_of_improvement"]

Strata = Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def make_strata(rows: Iterable[Mapping[str, Any]], column: str, by: Sequence[str]) -> list[NDArray[np.float64]]:
    """Return a column of rows by strata, in the order of the values of the columns `by`."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row[column])
    return [np.array(groups[key]) for key in sorted(groups)]


def interquartile_mean(strata: Strata) -> float:
    """Return the mean of the middle half of all scores (IQM).

    A quarter of the scores, rounded down, is left out at either end: fewer than four scores are simply averaged.
    """
    scores = np.sort(np.concatenate([np.asarray(stratum, np.float64) for stratum in strata]))
    cut = len(scores) // 4
    return float(scores[cut : len(scores) - cut].mean())


def probability_of_improvement(ours: Strata, theirs: Strata) -> float:
    """Return how often a run of ours scores higher than one of theirs.

    The share of pairs of runs that ours wins (ties count half), averaged over the strata.

    Args:
        ours: Scores by stratum.
        theirs: Scores of the other policy, with the same strata in the same order.

    Raises:
        ValueError: The numbers of strata differ.
    """
    shares = []
    for mine, other in zip(ours, theirs, strict=True):
        difference = np.asarray(mine, np.float64)[:, None] - np.asarray(other, np.float64)[None, :]
        shares.append(((difference > 0).mean() + (difference >= 0).mean()) / 2)
    return float(np.mean(shares))


def interval(
    statistic: Callable[..., float], *samples: Strata, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Estimate a statistic with a percentile bootstrap interval, stratified.

    Args:
        statistic: Called with one `Strata` for each of the `samples`.
        *samples: Independent samples; each is drawn from by itself.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap samples.
        level: Probability that the interval is meant to cover.

    Returns:
        The statistic of the samples and its interval. With one score in a stratum that stratum cannot vary: intervals
        from so few runs are too narrow.
    """
    rng = np.random.default_rng(seed)

    def drawn(strata: Strata) -> Strata:
        return [stratum[rng.integers(len(stratum), size=len(stratum))] for stratum in strata]

    values = [statistic(*map(drawn, samples)) for _ in range(resamples)]
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Estimate(statistic(*samples), float(low), float(high))
