"""Search for a point in a box [-1, 1] that scores high: by CMA-ES, or at random."""

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from fusion_env.errors import MissingRequirementsError

__all__ = ["SEARCHES", "Evaluate", "check_search", "search"]

SEARCHES = ("cma", "random")
"""``"cma"`` moves a normal distribution towards what scored high; ``"random"`` draws uniformly."""

Evaluate = Callable[[Sequence[NDArray[np.float64]]], Sequence[float]]
"""Scores some points, higher for better."""

_WIDTH = 0.3


def check_search(kind: str) -> None:
    """Find out whether a search can be had, before what comes ahead of it.

    Raises:
        MissingRequirementsError: CMA-ES needs the package `cma`.
    """
    if kind == "cma":
        _import_cma()


def _import_cma() -> ModuleType:
    try:
        import cma
    except ImportError as error:
        raise MissingRequirementsError(
            "the search 'cma' needs the package cma; in the folder of fusion-env: pip install -e '.[search]'. Or "
            "choose the search 'random'"
        ) from error
    return cma


def search(
    kind: str, start: Sequence[float], evaluate: Evaluate, *, budget: int, population: int, seed: int = 0
) -> None:
    """Score `budget` points, some at a time. Equal arguments and scores mean equal points.

    Args:
        kind: One of `SEARCHES`.
        start: Where CMA-ES begins.
        evaluate: Called with `population` points each time, the last time with what is left.
        budget: Points in all.
        population: Points that CMA-ES draws at a time, 2 or more.
        seed: Seed of the search.

    Raises:
        MissingRequirementsError: CMA-ES needs the package `cma`.
    """
    rng = np.random.default_rng(seed)
    if kind == "random":
        for first in range(0, budget, population):
            evaluate(list(rng.uniform(-1, 1, (min(population, budget - first), len(start)))))
        return
    options = {"bounds": [-1, 1], "popsize": population, "verbose": -9}
    # Not from NumPy's global generator, which `seed` would set.
    options |= {"seed": np.nan, "randn": lambda *shape: rng.standard_normal(shape)}
    strategy = _import_cma().CMAEvolutionStrategy(list(start), _WIDTH, options)
    for first in range(0, budget, population):
        points = strategy.ask()
        scores = evaluate(points[: budget - first])
        if len(scores) == len(points):  # with fewer there is nothing to learn from, and nothing to learn for
            strategy.tell(points, [-score for score in scores])
