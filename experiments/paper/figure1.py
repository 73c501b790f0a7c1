"""Figure 1: examples of the teacher, the student, and another method between them."""

from pathlib import Path

from experiments.paper.comparison import make_comparison
from experiments.paper.methods import PUBLISHED, absent_teachers, classical_methods, student_method, teacher_method
from experiments.paper.order import Order
from experiments.paper.pair_sets import ordered_sets

__all__ = ["make"]

_RIVAL = "dcevo"
"""The paper's other method."""


def make(order: Order) -> Path:
    """Show the middle pair of every set."""
    absent = absent_teachers()
    rival = classical_methods()[-1] if _RIVAL in absent else teacher_method(_RIVAL, None, order.device)
    teacher = "embedded" if order.preset == "demo" and PUBLISHED[0] in absent else PUBLISHED[0]
    methods = [rival, teacher_method(teacher, None, order.device), student_method(order.student, order.device)]
    names = ", ".join(method.name for method in methods)
    text = f"The paper shows DCEVo, its teacher LDFusion, and its student. Here: {names}."
    if rival.name != _RIVAL:
        text += f" There are no weights of DCEVo here; in its place stands {rival.name}."
    shown = [(one, one.middle) for one in ordered_sets(order)]
    return make_comparison(order, "figure1", "Figure 1: examples", shown, methods, text)
