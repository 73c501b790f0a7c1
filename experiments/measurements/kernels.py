"""What takes the device's time: kernels on CUDA, operations on a CPU, as PyTorch's profiler sees them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.measurements.timing import wait_for
from experiments.output import markdown_table
from fusion_env.errors import FusionEnvError

__all__ = ["Kernel", "kernel_table", "kernels"]

_SHOWN = 8
_NAME = 80


@dataclass
class Kernel:
    """All calls of one kernel.

    Attributes:
        name: Its name.
        calls: How many.
        share: Of the time of all kernels.
        longest: Share of its longest call.
    """

    name: str
    calls: int = 0
    share: float = 0.0
    longest: float = 0.0


def kernels(work: Callable[[], object], device: torch.device) -> list[Kernel]:
    """Profile one call; the most expensive kernel comes first.

    Raises:
        FusionEnvError: The profiler has seen none, so that there is nothing to tell.
    """
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    wait_for(device)
    with profile(activities=activities) as profiled:
        work()
        wait_for(device)
    calls: dict[str, list[float]] = defaultdict(list)
    for event in profiled.events():
        if not on_cuda:
            calls[event.name].append(event.self_cpu_time_total)
        elif event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation:
            calls[event.name].append(event.time_range.elapsed_us())
    total = sum(map(sum, calls.values()))
    if not total > 0:
        raise FusionEnvError("PyTorch's profiler has seen no kernels: it may lack the right to (CUPTI)")
    found = [Kernel(name, len(times), sum(times) / total, max(times) / total) for name, times in calls.items()]
    return sorted(found, key=lambda kernel: -kernel.share)


def kernel_table(found: Sequence[Kernel]) -> str:
    """Lay out the most expensive kernels, and how many others there are."""
    rows = [[one.name[:_NAME], one.calls, f"{one.share:.3f}", f"{one.longest:.3f}"] for one in found[:_SHOWN]]
    rest = found[_SHOWN:]
    share = sum(one.share for one in rest)
    rows.append([f"{len(rest)} others", sum(one.calls for one in rest), f"{share:.3f}", ""])
    return markdown_table(["kernel", "calls", "share", "longest call"], rows, right_from=1)
