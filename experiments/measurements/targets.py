"""What one GPU of the class of an H100 should reach, beside what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.output import markdown_table

__all__ = ["TARGETS", "Target", "targets_table"]


@dataclass(frozen=True)
class Target:
    """A limit on one number.

    Attributes:
        what: The number, as the measurement calls it.
        limit: The worst that reaches the target.
        at_least: Larger is better.
    """

    what: str
    limit: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        """Tell whether a value reaches the target; NaN does not."""
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = (
    Target("demo: plain / ours", 10, at_least=True),
    Target("demo: round, ms", 10),
    Target("demo: share of scoring", 0.15),
    Target("paper: iteration, ms", 20),
    Target("paper: iteration, share of its floor", 0.4, at_least=True),
    Target("paper, bfloat16: iteration, ms", 20),
    Target("paper, bfloat16: iteration, share of its floor", 0.4, at_least=True),
    Target("paper, whole round: round, ms", 3000),
    Target("paper, whole round: share of scoring", 0.15),
    Target("student: ms", 3),
    Target("student: times LDFusion", 10, at_least=True),
    Target("student: longest kernel, share", 0.15),
    Target("student: largest error in float16", 1 / 255),
    Target("LDFusion: largest error in float16", 1 / 255),
    Target("students: rounds/s : one", 4, at_least=True),
    Target("students: rounds/s : SubprocVecEnv", 4, at_least=True),
    Target("students: MB : SubprocVecEnv", 0.25),
    Target("growth with pairs: order", 1.1),
    Target("growth with pixels: order", 1.1),
    Target("growth with crops: order", 1.1),
    Target("growth with K: order", 1.1),
)


def targets_table(measured: Mapping[str, float]) -> str:
    """Lay out all targets; what was not measured says so."""
    rows = []
    for target in TARGETS:
        value = measured.get(target.what)
        told = "not measured" if value is None else f"{value:.3g}"
        reached = "" if value is None else "yes" if target.reached(value) else "no"
        limit = f"{'at least' if target.at_least else 'at most'} {target.limit:.3g}"
        rows.append([target.what, limit, told, reached])
    return markdown_table(["what", "target", "measured", "reached"], rows, right_from=1)
