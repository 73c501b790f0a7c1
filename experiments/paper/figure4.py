"""Figure 4: all methods side by side, with enlarged details."""

from pathlib import Path

from experiments.paper.comparison import make_comparison
from experiments.paper.methods import absent_teachers
from experiments.paper.order import Order
from experiments.paper.table1 import fused_middles

__all__ = ["make"]


def make(order: Order) -> Path:
    """Show the middle pair of every set, by all methods of Table 1."""
    shown, methods = fused_middles(order)
    text = (
        "Of each set the middle of the pairs taken, in the order of their names, so that none is picked for its look."
    )
    absent = absent_teachers()
    if absent:
        text += f" Not shown, as `$FUSION_ENV_WEIGHTS` has no weights of them: {', '.join(absent)}."
    return make_comparison(order, "figure4", "Figure 4: methods side by side", shown, methods, text)
