"""The numbers of Table 2: means over seeds, differences of one seed, and how much of them is chance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarking.uncertainty import interquartile_mean, interval
from experiments.output import markdown_table
from experiments.paper.detection_training import ARCHITECTURE, MEASURES, Recipe
from experiments.paper.ledger import Row
from experiments.paper.methods import Method
from experiments.paper.page import head
from experiments.paper.published import published
from student.console import printable

__all__ = ["detection_page", "results_table", "seed_noise", "seeds_needed"]

_PAPERS_DIFFERENCE = 0.01
_NORMAL = 1.96


def results_table(rows: Sequence[Row]) -> str:
    """Compare the methods as Markdown, in the order of their first rows.

    Args:
        rows: Rows of ``raw.csv``: `method`, `seed` and each of `MEASURES`.

    Returns:
        Interquartile means over the seeds with 95 % bootstrap intervals; the differences to the first method, of
        detectors with one seed, likewise; and what one seed more or less does to a number.
    """
    names = list(dict.fromkeys(row["method"] for row in rows))
    header = ["method", "n", *MEASURES.values(), *(f"{title}, difference to {names[0]}" for title in MEASURES.values())]
    lines = []
    for name in names:
        scores = [_by_seed(rows, name, measure) for measure in MEASURES]
        first = [_by_seed(rows, names[0], measure) for measure in MEASURES]
        pairs = [
            np.array([own[seed] - other[seed] for seed in own if seed in other])
            for own, other in zip(scores, first, strict=True)
        ]
        cells = [_estimate(np.array(list(own.values()))) for own in scores]
        lines.append([name, len(scores[0]), *cells, *("-" if name == names[0] else _estimate(pair) for pair in pairs)])
    noise = [
        "*deviation between seeds*",
        "",
        *(f"{seed_noise(rows, measure):.3f}" for measure in MEASURES),
        *[""] * len(MEASURES),
    ]
    return markdown_table(header, [*lines, noise])


def seed_noise(rows: Sequence[Row], measure: str) -> float:
    """Return the standard deviation between seeds, pooled over the methods; NaN with one seed each."""
    groups = [list(_by_seed(rows, name, measure).values()) for name in {row["method"] for row in rows}]
    degrees = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.sum((np.array(group) - np.mean(group)) ** 2)) for group in groups)
    return float(np.sqrt(squares / degrees)) if degrees else float("nan")


def seeds_needed(noise: float, difference: float) -> int:
    """Return how many seeds for each method make the 95 % interval of a difference as narrow as plus or minus itself.

    >>> seeds_needed(0.01, difference=0.01)
    8
    """
    return int(np.ceil(2 * (_NORMAL * noise / difference) ** 2))


def detection_page(rows: Sequence[Row], methods: Sequence[Method], pairs: str, recipe: Recipe, command: str) -> str:
    """Write the page.

    Args:
        rows: Rows of ``raw.csv``.
        methods: What was compared.
        pairs: On which images.
        recipe: How the detectors were trained.
        command: How it was called.
    """
    parts = [
        *head("Table 2: object detection on fused images", command, sum(row["seconds"] for row in rows)),
        f"{pairs}. Detectors: {Path(ARCHITECTURE).stem} from nothing, {recipe.epochs} epochs of images of "
        f"{recipe.image_size} pixels in batches of {recipe.batch}, alike for all methods. The detector after the last "
        "epoch is tested: no image chooses when to stop.",
        results_table(rows),
        "Interquartile means over the seeds (fewer than four are averaged) with 95 % bootstrap intervals, which are "
        "too narrow for few seeds; a difference is taken between detectors of one seed, which begin with the same "
        "weights and see the pairs in the same order.",
        _noise_text(rows),
        _published_table(),
        "What each detector sees, with the labelled boxes above and those found below:",
        *(f"![{method.name}](detectors/{method.name}-{rows[0]['seed']}/boxes.png)" for method in methods),
        "\n".join(f"- {method.name}: {printable(method.origin)}" for method in methods),
    ]
    return "\n\n".join(parts) + "\n"


def _noise_text(rows: Sequence[Row]) -> str:
    """Say how many seeds a difference such as the paper's takes."""
    noise = {title: seed_noise(rows, measure) for measure, title in MEASURES.items()}
    if np.isnan(list(noise.values())).any():
        return "One seed each: how far chance moves these numbers is not known."
    needed = ", ".join(f"{seeds_needed(value, _PAPERS_DIFFERENCE)} for {title}" for title, value in noise.items())
    return (
        f"The paper's methods differ by about {_PAPERS_DIFFERENCE}. With the deviation seen here, the 95 % interval of "
        f"a difference between independent detectors is as narrow as plus or minus that with so many seeds for each "
        f"method: {needed}."
    )


def _published_table() -> str:
    """Write the paper's numbers."""
    numbers = published(2)
    if not numbers:
        return "The paper's own numbers are not at hand; rows for table 2 in `published.csv` would stand here."
    names = list(dict.fromkeys(method for _, method, _ in numbers))
    data = next(iter(numbers))[0]
    lines = [[name, *(numbers.get((data, name, measure), "-") for measure in MEASURES)] for name in names]
    return f"The paper's, on {data}:\n\n{markdown_table(['method', *MEASURES.values()], lines)}"


def _by_seed(rows: Sequence[Row], method: str, measure: str) -> dict[int, float]:
    return {row["seed"]: row[measure] for row in rows if row["method"] == method}


def _estimate(values: NDArray[np.float64]) -> str:
    return f"{interval(interquartile_mean, [values]):.3f}" if len(values) > 1 else f"{values.mean():.3f}"
