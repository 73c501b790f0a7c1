"""Table 1: fusion methods by the paper's five metrics, the published numbers beside them; fog and low light as well."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from experiments.evaluation.chosen_scores import PRESETS as METRIC_SETS
from experiments.evaluation.summary import LEVEL, RESAMPLES, summarise, summary_cell
from experiments.output import markdown_table, write_csv, write_text
from experiments.paper.comparison import draw_comparison
from experiments.paper.fused import Shown, fuse_pairs, written
from experiments.paper.methods import PUBLISHED, Method, absent_teachers, ordered_methods
from experiments.paper.order import Order
from experiments.paper.page import head
from experiments.paper.pair_sets import PairSet, ordered_sets
from experiments.paper.published import published
from fusion_env import metrics
from fusion_env.data import ImagePair, luma_levels
from student.console import printable

__all__ = ["METRICS", "compare", "fused_middles", "make", "score"]

METRICS = METRIC_SETS["agentfuse-paper"]
_COLUMNS = {"ag_forward": "AG", "sf_uint8": "SF", "viff": "VIFF", "ei": "EI", "en": "EN"}
_DECIMALS = {"ag_forward": 3, "sf_uint8": 3, "viff": 3, "ei": 2, "en": 3}
"""As the paper prints them."""
_NAME = "table1"
_TITLE = "Table 1: fusion methods"
_NOT_HERE = "\N{EN DASH}"


def make(order: Order) -> Path:
    """Compare the methods of an order on its sets."""
    absent = absent_teachers()
    notes = [f"Not measured, as `$FUSION_ENV_WEIGHTS` has no weights of them: {', '.join(absent)}."] if absent else []
    return compare(ordered_methods(order), ordered_sets(order), order.folder(_NAME), order.command, notes)


def fused_middles(order: Order) -> tuple[list[Shown], list[Method]]:
    """Fuse the middle pair of every set by all methods, for figures: the part of the table that they need.

    Returns:
        The pairs, and the methods as readers of their images.
    """
    methods, shown = ordered_methods(order), [(one, one.middle) for one in ordered_sets(order)]
    fuse_pairs(shown, methods, order.folder(_NAME), score)
    return shown, written(methods, order.folder(_NAME))


def compare(
    methods: Sequence[Method], sets: Sequence[PairSet], folder: Path, command: str, notes: Sequence[str] = ()
) -> Path:
    """Fuse and score all pairs with all methods, and write what came out.

    Args:
        methods: What is compared.
        sets: On which pairs.
        folder: Gets the fused images (``fused/METHOD/SET``), ``images.csv`` (every value), ``summary.csv``, a picture
            and the page.
        command: How it was called, for the page.
        notes: Further sentences for it.

    Returns:
        The page.
    """
    pairs = [(one, index) for one in sets for index in one.indices]
    rows, seconds = fuse_pairs(pairs, methods, folder, score)
    write_csv(folder / "images.csv", rows, digits=9)
    frame = pd.DataFrame(rows)
    sections: dict[str, tuple[pd.DataFrame, str]] = {}
    for one in sets:
        of_set = frame[frame["data"] == one.name]
        sections[one.name] = of_set, one.published
        for part, names in one.parts.items():
            sections[f"{one.name}, {part}"] = of_set[of_set["image"].isin(names)], ""
    tables = {title: summarise(part, [metrics.get(name) for name in METRICS]) for title, (part, _) in sections.items()}
    summary = pd.concat([table.assign(data=title) for title, table in tables.items()])
    write_csv(folder / "summary.csv", summary.to_dict("records"), digits=9)
    draw_comparison([(one, one.indices[0]) for one in sets], written(methods, folder), folder / "pictures.png")
    write_text(folder / "table1.md", _page(tables, sections, methods, head(_TITLE, command, seconds), notes))
    return folder / "table1.md"


@torch.inference_mode()
def score(fused: torch.Tensor, pair: ImagePair) -> dict[str, float]:
    """Compute the paper's metrics of a fused image, uint8 [3, H, W], by its luma in whole levels."""
    vis = luma_levels(pair.vis)[None]
    values = metrics.compute(METRICS, luma_levels(fused)[None], ir=pair.ir[None], vis=vis)
    return {name: float(value) for name, value in values.items()}


def _page(
    tables: Mapping[str, pd.DataFrame],
    sections: Mapping[str, tuple[pd.DataFrame, str]],
    methods: Sequence[Method],
    begin: Sequence[str],
    notes: Sequence[str],
) -> str:
    parts = [
        *begin,
        f"Means over the images, their {LEVEL:.0%} bootstrap intervals ({RESAMPLES} samples, seed 0), and in brackets "
        "the paper's number on its own pairs (of M3FD the 300 for fusion), where it is at hand. Higher is better, as "
        "the paper reads them, though noise and halos raise all but VIFF. **Best**, *second best* of those measured "
        "here.",
        *notes,
    ]
    for title, table in tables.items():
        data = sections[title][1]
        count = int(table["n"].iloc[0])
        parts += [
            f"## {title} ({count} pair{'s' * (count > 1)})",
            _table(table, data, [method.name for method in methods]),
        ]
    parts += ["## Methods", "\n".join(f"- {method.name}: {printable(method.origin)}" for method in methods)]
    legend = "\n".join(f"- {_COLUMNS[name]}: `{name}`, {metrics.get(name).summary}" for name in METRICS)
    parts += ["## Metrics", legend, "![fused images](pictures.png)"]
    return "\n\n".join(parts) + "\n"


def _table(summary: pd.DataFrame, data: str, measured: Sequence[str]) -> str:
    """Write a table with the methods measured here, then those that only the paper has numbers of."""
    theirs = published(1)
    others = [name for name in PUBLISHED if name not in measured and any(key[:2] == (data, name) for key in theirs)]
    cells = summary.set_index(["method", "metric"])
    rows = []
    for method in (*measured, *others):
        row: list[object] = [method]
        for name in METRICS:
            ours = summary_cell(cells.loc[(method, name)], _DECIMALS[name]) if method in measured else _NOT_HERE
            number = theirs.get((data, method, name))
            row.append(ours if number is None else f"{ours} ({number:.{_DECIMALS[name]}f})")
        rows.append(row)
    return markdown_table(["method", *(_COLUMNS[name] for name in METRICS)], rows, right_from=1)
