"""The numbers of Table 4: averages over the data sets, intervals over the seeds, differences to the full method."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarking.uncertainty import interquartile_mean, interval
from experiments.output import markdown_table
from experiments.paper.ablation_variants import FULL, TEACHER, VARIANTS
from experiments.paper.ledger import Row
from experiments.paper.page import head
from experiments.paper.published import published

__all__ = ["COLUMNS", "ablation_page", "averaged", "differences", "sign_flip_probability"]

_RELATIVE = {"e": "VIF, IQA*", "last_e": "of the last round"}
COLUMNS = {"ag_forward": "AG", "sf_uint8": "SF", "viff": "VIFF", "ei": "EI", "en": "EN", **_RELATIVE}
"""Titles by column of ``raw.csv``: the paper's, and two of our own."""

_AVERAGE = "average"
"""What ``published.csv`` calls the paper's average over the data sets."""
_MOST_EXACT, _DRAWS, _ROUNDING = 12, 10_000, 1e-9
_UNLIKELY = 0.05

Key = tuple[int, int]
"""Seed and stage-0 seed."""


def ablation_page(rows: Sequence[Row], told: Mapping[str, str], command: str, seconds: float) -> str:
    """Write the page.

    Args:
        rows: Of all runs and of the teacher: one for each test set.
        told: What was run, by title.
        command: How it was called.
        seconds: Time of the work.
    """
    count = len(averaged(rows, FULL, "e"))
    others = [name for name in VARIANTS if name != FULL]
    numbers = len(others) * len(COLUMNS)
    changed = {variant.title: variant.settings for variant in VARIANTS.values() if variant.settings}
    parts = [
        *head("Table 4: what each part of the method is worth", command, seconds),
        "\n".join(f"- {title}: {text}" for title, text in told.items()),
        "Every row has the same rounds, seeds and stage-0 students. Numbers are averaged over the test sets first, as "
        f"in the paper; shown are interquartile means over {count} seeds with 95 % bootstrap intervals, which are too "
        "narrow for few seeds, and in brackets the paper's number, where it is at hand. *VIF, IQA\\** is the mean of "
        "both relative to the teacher's, minus 1, on the report split, whatever the row's reward. Beside it stands "
        "that of the last round's student; all else is of the one that a run delivers, its best by the row's own "
        "reward, the stage-0 student among the candidates. Higher is better, though noise and halos raise all of AG, "
        "SF, EI and EN.",
        _table(rows, _value, [*VARIANTS, TEACHER]),
        "Differences to the full method, between runs of one seed and start. Bold: so far from 0 that random signs "
        f"reach it in less than {_UNLIKELY:.0%} of cases, which takes six seeds; {numbers} numbers without any "
        f"difference would do so {numbers * _UNLIKELY:.0f} times.",
        _table(rows, _difference, others),
        "\n".join(
            f"- {title}: {', '.join(f'`{name}={value}`' for name, value in settings.items())}"
            for title, settings in changed.items()
        ),
    ]
    if not published(4):
        parts.append("The paper's own numbers are not at hand; rows for table 4 in `published.csv` would stand here.")
    return "\n\n".join(parts) + "\n"


def averaged(rows: Sequence[Row], variant: str, column: str) -> dict[Key, float]:
    """Return a column of one variant, averaged over the test sets, by seed and stage-0 seed."""
    values: dict[Key, list[float]] = {}
    for row in rows:
        if row["variant"] == variant:
            values.setdefault((row.get("seed", 0), row.get("stage0_seed", 0)), []).append(row[column])
    return {key: float(np.mean(found)) for key, found in values.items()}


def differences(rows: Sequence[Row], variant: str, column: str) -> NDArray[np.float64]:
    """Return by how much a variant exceeds the full method, for each seed and start that both have."""
    own, full = averaged(rows, variant, column), averaged(rows, FULL, column)
    return np.array([own[key] - full[key] for key in own if key in full])


def sign_flip_probability(values: NDArray[np.float64]) -> float:
    """Return how likely a mean at least so far from 0 is if each value might as well have the other sign.

    Exact for up to 12 values; it is at least ``2 / 2**n``, so that fewer than six values never come below 0.05.

    >>> sign_flip_probability(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    if len(values) <= _MOST_EXACT:
        signs = np.array(list(product((-1, 1), repeat=len(values))))
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (_DRAWS, len(values)))
    means = np.abs(signs @ values)
    return float(np.mean(means >= np.abs(values.sum()) * (1 - _ROUNDING)))


def _table(rows: Sequence[Row], cell: Callable[[Sequence[Row], str, str], str], names: Sequence[str]) -> str:
    titles = {TEACHER: "*teacher*"} | {name: variant.title for name, variant in VARIANTS.items()}
    lines = [[titles[name], *(cell(rows, name, column) for column in COLUMNS)] for name in names]
    return markdown_table(["", *COLUMNS.values()], lines)


def _value(rows: Sequence[Row], name: str, column: str) -> str:
    if name == TEACHER and column in _RELATIVE:
        return "0"
    number = published(4).get((_AVERAGE, name, column))
    theirs = "" if number is None else f" ({number:.3f})"
    return _estimate(np.array(list(averaged(rows, name, column).values()))) + theirs


def _difference(rows: Sequence[Row], name: str, column: str) -> str:
    values = differences(rows, name, column)
    mark = "**" if sign_flip_probability(values) < _UNLIKELY else ""
    return f"{mark}{_estimate(values)}{mark}"


def _estimate(values: NDArray[np.float64]) -> str:
    return f"{interval(interquartile_mean, [values]):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
