"""Summaries of few runs with their uncertainty.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021.

The scores of one policy come as strata: one array for each cell of the design that is not the policy's doing, such as
a task. Bootstrap samples are drawn inside each stratum, so that its share never varies. What a policy does from one
*start* (a stage-0 student on a draw of the data) is one unit, however many runs there are: only starts can be drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "FEWEST_UNITS",
    "Difference",
    "Estimate",
    "expanded_level",
    "holm",
    "interquartile_mean",
    "interval",
    "make_strata",
    "middle_half",
    "normalised_score",
    "paired_difference",
    "probability_of_improvement",
    "unit_interval",
]

FEWEST_UNITS = 5
"""Below that intervals are too narrow, or say nothing; docs/reference/benchmark-protocol.md has their coverage."""

Strata = Sequence[NDArray[np.float64]]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, which is NaN where there is none."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        if np.isnan(self.low):
            return f"{self.value:{spec}}"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean paired difference with its 95 % interval.

    Attributes:
        p: Two-sided probability of a mean so far from 0 by chance.
    """

    p: float


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
    return float(middle_half(np.concatenate([np.asarray(stratum, np.float64) for stratum in strata])))


def middle_half(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same mean along the first axis."""
    ordered = np.sort(scores, axis=0)
    cut = len(ordered) // 4
    return ordered[cut : len(ordered) - cut].mean(axis=0)


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
    statistic: Callable[..., float], *samples: Strata, seed: int = 0, resamples: int = _RESAMPLES, level: float = 0.95
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


def expanded_level(units: int, level: float = 0.95) -> float:
    """Return the level at which a percentile bootstrap of few units covers about as often as `level` says.

    A bootstrap sample varies by the plain standard deviation, not the one with n - 1, and its percentiles know nothing
    of Student's t.

    Source: Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician, 2015: expanded
    percentile interval.

    Args:
        units: Units that are drawn from, at least 2.
        level: Probability that the interval is meant to cover.

    >>> round(expanded_level(5), 4), round(expanded_level(1000), 4)
    (0.9981, 0.9504)
    """
    reach = stats.t.ppf((1 + level) / 2, units - 1) * np.sqrt(units / (units - 1))
    return float(1 - 2 * stats.norm.sf(reach))


def unit_interval(statistic: Callable[..., NDArray[np.float64]], *samples: ArrayLike) -> Estimate:
    """Estimate a statistic with an expanded percentile interval over units.

    Args:
        statistic: Called with an array [units, ...] for each of the `samples`; reduces the first axis.
        *samples: Independent samples of at least two units each: a number for each unit, or a row of numbers that are
            drawn together.

    Returns:
        The statistic with its interval; without one where a sample is a single unit.
    """
    tables = [np.asarray(sample, np.float64) for sample in samples]
    value, fewest = float(statistic(*tables)), min(map(len, tables))
    if fewest < 2:
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng(0)
    drawn = [table[rng.integers(len(table), size=(len(table), _RESAMPLES))] for table in tables]
    tail = 50 * (1 - expanded_level(fewest))
    low, high = np.percentile(statistic(*drawn), [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def paired_difference(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """Return the mean difference of paired scores with Student's interval.

    Args:
        ours: One score for each unit.
        theirs: Those of the other policy for the same units.

    Returns:
        The mean; its interval and `p` are NaN where there is one unit only.
    """
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Difference(mean, np.nan, np.nan, np.nan)
    error = float(differences.std(ddof=1)) / np.sqrt(count)
    reach = float(stats.t.ppf(0.975, count - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    return Difference(mean, mean - reach, mean + reach, p)


def holm(ps: Sequence[float]) -> list[float]:
    """Return probabilities corrected for their number, so that one threshold holds for all of them together.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [np.nan] * len(ps), 0.0
    known = [index for index in np.argsort(ps) if not np.isnan(ps[index])]
    for place, index in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def normalised_score(gains: Mapping[Any, float], headroom: Mapping[Any, float]) -> Estimate:
    """Return what a policy gains as a share of what is known to be gainable: 0 is the control, 1 the best found.

    Args:
        gains: The policy's score less the control's, by unit.
        headroom: Likewise for the best found. Units that are the same ones are drawn together.

    Returns:
        The ratio of the means and its interval; NaN where the headroom is not above 0 beyond its own interval: a share
        of noise is none.
    """
    wholes = np.array(list(headroom.values()))
    if not paired_difference(wholes, np.zeros(len(wholes))).low > 0:
        return Estimate(np.nan, np.nan, np.nan)
    if gains.keys() == headroom.keys():
        pairs = [(gains[unit], headroom[unit]) for unit in gains]
        return unit_interval(lambda drawn: drawn[..., 0].mean(axis=0) / drawn[..., 1].mean(axis=0), pairs)
    return unit_interval(lambda ours, best: ours.mean(axis=0) / best.mean(axis=0), list(gains.values()), wholes)
