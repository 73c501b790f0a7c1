"""CPU threads: how many, and what becomes of them in a forked process.

A fork copies one thread only. GNU's OpenMP, with which PyTorch computes on Linux, does not notice: the copy would wait
for ever for the others. Before every fork the pool is therefore given up; parent and child make new ones when they need
them. A child computes with one thread until `set_threads` says otherwise, because children that wait actively for more
threads than the machine has are many times slower.
"""

import ctypes
import logging
import os
import sys
from contextlib import suppress

__all__ = ["set_threads", "survive_forks"]

_logger = logging.getLogger(__name__)

_PAUSE_HARD = 2  # of omp.h


class _Pool:
    """What became of the pool of threads at the last fork."""

    given_up = True
    lost = False


def survive_forks() -> None:
    """Make PyTorch usable in every process that is forked from this one; called when the package is imported."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_give_up_pools, after_in_child=_begin_with_one)


def set_threads(count: int) -> None:
    """Set the number of PyTorch's CPU threads; a process that was forked beside a pool that would not go has one."""
    import torch

    if _Pool.lost and count > 1:
        _logger.warning("threads=%d has no effect in this forked process: start processes with spawn", count)
    else:
        torch.set_num_threads(count)


def _give_up_pools() -> None:
    _Pool.given_up = all(_give_up(path) for path in _gnu_openmp())


def _gnu_openmp() -> set[str]:
    """List the copies of GNU's OpenMP in this process; several packages bring one."""
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return {line.split(maxsplit=5)[5].strip() for line in maps if "libgomp" in line}
    return set()


def _give_up(path: str) -> bool:
    try:
        return ctypes.CDLL(path).omp_pause_resource_all(_PAUSE_HARD) == 0
    except (OSError, AttributeError):  # older than OpenMP 5.0
        return False


def _begin_with_one() -> None:
    _Pool.lost |= not _Pool.given_up
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
