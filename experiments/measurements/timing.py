"""The time that a call takes, all of its work on the device included."""

import time
from collections.abc import Callable

import numpy as np
import torch

__all__ = ["Clock", "median_seconds", "seconds", "wait_for"]


Clock = Callable[[], float]
"""Seconds since whenever: `time.perf_counter`, or `time.process_time`, which other programs do not make go on."""


def seconds(work: Callable[[], object], device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Time one call."""
    wait_for(device)
    start = clock()
    work()
    wait_for(device)
    return clock() - start


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Time several calls after one to warm up."""
    return float(np.median([seconds(work, device) for _ in range(repeats + 1)][1:]))


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
