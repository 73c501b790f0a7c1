"""Table 3: size and cost of the networks, by `experiments.measurements.network_cost`."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from math import prod
from pathlib import Path

from experiments.command_line import progress_bar
from experiments.measurements import network_cost
from experiments.paper.ledger import Ledger, Piece, Row, work_through
from experiments.paper.order import Order
from fusion_env.task import resolve_device

__all__ = ["make"]

_REPEATS = {"demo": 1, "paper": 5}
_SIZES = {"demo": ("320x256",), "paper": tuple(network_cost.SIZES)}
_PARTS = ("latency", "peak", "failure")
"""What `network_cost.Cost` has by size."""


def make(order: Order) -> Path:
    """Count all networks, and time them at the images' sizes of the paper, or at a small one in the demo."""
    folder, device, repeats = order.folder("table3"), resolve_device(order.device), _REPEATS[order.preset]
    title, costs = network_cost.heading(device, repeats), network_cost.count_all(list(network_cost.NETWORKS))
    timed = cache(partial(network_cost.timed_networks, list(costs), device))  # by the first size that is not done
    done = dict.fromkeys(_SIZES[order.preset], 0.0)

    def at(size: str) -> list[Row]:
        def watched(turns: Sequence[str]) -> Iterator[str]:
            for number, turn in enumerate(progress_bar(turns, size)):
                done[size] = number / len(turns)
                yield turn

        network_cost.measure(timed(), costs, size, repeats=repeats, device=device, progress=watched)
        return [
            {"network": name, **{part: getattr(costs[name], part).get(size) for part in _PARTS}} for name in timed()
        ]

    pieces = [
        Piece(size, partial(at, size), prod(map(int, size.split("x"))), "sizes", share=partial(done.__getitem__, size))
        for size in _SIZES[order.preset]
    ]
    ledger = Ledger(folder / "ledger.jsonl", {"measured": title})
    work_through(pieces, ledger)
    for piece in pieces:
        for row in ledger[piece.name]:
            for part in _PARTS:
                if row[part] is not None:
                    getattr(costs[row["network"]], part)[piece.name] = row[part]
    network_cost.write_results(costs, [piece.name for piece in pieces], title, folder)
    return folder / "efficiency.md"
