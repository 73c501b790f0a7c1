"""What the cards of the embedded networks report: rank correlation and time."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

__all__ = ["median_ms", "spearman"]


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Compute the rank correlation; ties get their mean rank, and a constant sequence counts as 0."""
    correlation = pd.DataFrame({"first": first, "second": second}).corr("spearman").loc["first", "second"]
    return 0.0 if np.isnan(correlation) else float(correlation)


def median_ms(function: Callable[[], object], repeats: int = 30) -> float:
    """Time a call on one thread: median of ``repeats`` after three to warm up, in milliseconds."""
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(repeats + 3):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 1e3 * float(np.median(seconds[3:]))
