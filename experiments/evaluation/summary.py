"""Means over images with bootstrap intervals, and the table that a paper prints."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.evaluation.scoring import Score
from experiments.output import markdown_table
from student.console import printable

__all__ = ["LEVEL", "RESAMPLES", "bootstrap_interval", "summarise", "summary_cell", "summary_table"]

LEVEL = 0.95
RESAMPLES = 10_000

_DRAWN_AT_ONCE = 2_000_000  # counts held in memory at a time
_DIGITS = 4


def bootstrap_interval(
    values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> NDArray[np.float64]:
    """Return percentile bootstrap intervals of column means; rows are drawn with replacement, for all columns alike.

    Args:
        values: ``[n, k]``, one row for each image.
        resamples: Number of bootstrap samples.
        seed: Seed of the draws: the same for every table of n rows, so that intervals of methods compare.
        level: Probability that an interval covers.

    Returns:
        ``[k, 2]``, low and high; NaN for a column that holds NaN or infinity, and for fewer than two rows.
    """
    values = np.asarray(values, dtype=np.float64)
    rows, columns = values.shape
    intervals = np.full((columns, 2), np.nan)
    usable = np.isfinite(values).all(axis=0)
    if rows < 2 or not usable.any():
        return intervals
    generator = np.random.default_rng(seed)
    chunk = max(1, _DRAWN_AT_ONCE // rows)
    means = []
    for start in range(0, resamples, chunk):
        # How often each row is drawn is all that a mean depends on.
        counts = generator.multinomial(rows, np.full(rows, 1 / rows), size=min(chunk, resamples - start))
        means.append(counts @ values[:, usable] / rows)
    tail = (1 - level) / 2
    intervals[usable] = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T
    return intervals


def summarise(
    per_image: pd.DataFrame, scores: Sequence[Score], resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Summarise scores of images.

    Args:
        per_image: Columns ``method``, ``image`` and one for each score.
        scores: The scores, for their order and direction.
        resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        One row for each method and metric, with columns ``method``, ``metric``, ``mean``, ``ci_low``, ``ci_high``
        (95 %), ``n`` (images) and ``place``: ``"best"``, ``"second"`` or empty. Equal means share a place, and two best
        leave no second. A single method has no place, nor has a mean that is NaN.
    """
    names = [score.name for score in scores]
    rows = []
    for method, group in per_image.groupby("method", sort=False):
        values = group[names].to_numpy(dtype=np.float64)
        intervals = bootstrap_interval(values, resamples, seed)
        for name, mean, (low, high) in zip(names, values.mean(axis=0), intervals, strict=True):
            rows.append(
                {"method": method, "metric": name, "mean": mean, "ci_low": low, "ci_high": high, "n": len(values)}
            )
    summary = pd.DataFrame(rows)
    summary["place"] = ""
    if summary["method"].nunique() > 1:
        for score in scores:
            means = summary.loc[summary["metric"] == score.name, "mean"]
            ranks = means.rank(method="min", ascending=not score.higher_is_better)
            summary.loc[means.index, "place"] = ranks.map({1.0: "best", 2.0: "second"}).fillna("")
    return summary


def summary_table(summary: pd.DataFrame, scores: Sequence[Score]) -> str:
    """Write a summary as a Markdown table, methods as rows: mean [low, high], best **bold**, second best *italic*."""
    decimals = {score.name: _decimals(summary.loc[summary["metric"] == score.name, "mean"]) for score in scores}
    rows = []
    for method, group in summary.groupby("method", sort=False):
        cells = group.set_index("metric")
        texts = [summary_cell(cells.loc[score.name], decimals[score.name]) for score in scores]
        rows.append([printable(str(method)), group["n"].iloc[0], *texts])
    return markdown_table(["method", "n", *(score.name for score in scores)], rows, right_from=1)


def _decimals(means: pd.Series) -> int:
    """Return how many decimals show the largest mean of a column with four digits (0.xxx counts as four)."""
    largest = means[np.isfinite(means)].abs().max()
    if not largest > 0:
        return _DIGITS - 1
    exponent = math.floor(math.log10(largest))
    return max(0, _DIGITS - 1 - (0 if exponent == -1 else exponent))


def summary_cell(row: pd.Series, decimals: int) -> str:
    """Write a row of a summary as a cell: mean [low, high], without an interval where a single image gives none."""
    mark = {"best": "**", "second": "*"}.get(row["place"], "")
    mean = f"{mark}{row['mean']:.{decimals}f}{mark}"
    if np.isnan(row["ci_low"]):
        return mean
    return f"{mean} [{row['ci_low']:.{decimals}f}, {row['ci_high']:.{decimals}f}]"
