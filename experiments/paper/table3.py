"""Table 3: size and cost of the networks, by `experiments.measurements.network_cost`."""

from pathlib import Path

from experiments.measurements import network_cost
from experiments.paper.order import Order

__all__ = ["make"]

_REPEATS = {"demo": "1", "paper": "5"}
_SIZES = {"demo": ("320x256",), "paper": tuple(network_cost.SIZES)}


def make(order: Order) -> Path:
    """Count all networks, and time them at the images' sizes of the paper, or at a small one in the demo."""
    folder = order.folder("table3")
    threads = ["--threads", str(order.threads)] if order.threads else []
    what = ["--sizes", *_SIZES[order.preset], "--repeats", _REPEATS[order.preset], "--device", order.device]
    network_cost.main([*what, *threads, "--out", str(folder)])
    return folder / "efficiency.md"
