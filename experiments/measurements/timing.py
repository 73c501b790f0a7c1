"""The time that a call takes, all of its work on the device included."""

import time
from collections.abc import Callable

import numpy as np
import torch

__all__ = ["median_seconds", "seconds"]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time one call."""
    _wait_for(device)
    start = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Time several calls after one to warm up."""
    return float(np.median([seconds(work, device) for _ in range(repeats + 1)][1:]))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
