"""Figure 1: examples of the teacher, the student, and another method beside them."""

from pathlib import Path

from experiments.paper.comparison import make_comparison
from experiments.paper.order import Order
from experiments.paper.table1 import fused_middles

__all__ = ["make"]

_COLUMNS = (("dcevo", "laplacian"), ("ldfusion", "embedded"), ("student",))
"""What the paper shows, and what stands in its place where there are no weights of it."""


def make(order: Order) -> Path:
    """Show the middle pair of every set."""
    shown, methods = fused_middles(order)
    known = {method.name: method for method in methods}
    drawn = [next(known[name] for name in names if name in known) for names in _COLUMNS]
    text = "The paper shows DCEVo, its teacher LDFusion, and its student."
    replaced = [
        (method.name, names[0]) for method, names in zip(drawn, _COLUMNS, strict=True) if method.name != names[0]
    ]
    if replaced:
        told = ", ".join(f"{ours} in place of {theirs}" for ours, theirs in replaced)
        text += f" Here, where there are no weights of these: {told}."
    return make_comparison(order, "figure1", "Figure 1: examples", shown, drawn, text)
