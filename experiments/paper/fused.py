"""Fuse pairs with all methods: images on disk, rows of results, and where it was stopped it goes on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from experiments.paper.ledger import Ledger, Piece, Row, work_through
from experiments.paper.methods import Method, reader
from experiments.paper.pair_sets import PairSet
from fusion_env.data import ImagePair, write_png

__all__ = ["Shown", "fuse_pairs", "written"]

Shown = tuple[PairSet, int]
"""A set, and the index of a pair of it."""

Score = Callable[[Tensor, ImagePair], dict[str, float]]
"""Maps a fused image, uint8 [3, H, W], and its pair to values by name."""


def _nothing(fused: Tensor, pair: ImagePair) -> dict[str, float]:
    return {}


def fuse_pairs(
    pairs: Sequence[Shown], methods: Sequence[Method], folder: Path, score: Score = _nothing
) -> tuple[list[Row], float]:
    """Fuse pairs with all methods into PNG files, and score them.

    Args:
        pairs: What is fused.
        methods: What fuses.
        folder: Gets ``fused/METHOD/SET/NAME.png``, and a ledger of what is done.
        score: What is computed of each fused image.

    Returns:
        A row with set (``data``), pair (``image``), ``method`` and the scores for each image, and the seconds that all
        took.

    Raises:
        ConfigError: The folder has results of other pairs or methods.
    """
    settings = {f"method {method.name}": method.origin for method in methods}
    settings |= {f"set {one.name}": one.source.fingerprint() for one, _ in pairs}
    ledger = Ledger(folder / "ledger.jsonl", settings)
    pieces = [
        Piece(f"{one.name}/{one.source.names[i]}", partial(_rows, one, i, methods, folder, score), one.pixels(i))
        for one, i in pairs
    ]
    return work_through(pieces, ledger), ledger.seconds


def written(methods: Sequence[Method], folder: Path) -> list[Method]:
    """Return the methods as readers of what `fuse_pairs` wrote."""
    return [replace(method, fuse=reader(folder / "fused" / method.name)) for method in methods]


def _rows(one: PairSet, index: int, methods: Sequence[Method], folder: Path, score: Score) -> list[Row]:
    pair = one.pair(index)
    rows = []
    for method in methods:
        fused = method.fuse(one.name, pair)
        write_png(folder / "fused" / method.name / one.name / f"{pair.name}.png", fused)
        rows.append({"data": one.name, "image": pair.name, "method": method.name, **score(fused, pair)})
    return rows
