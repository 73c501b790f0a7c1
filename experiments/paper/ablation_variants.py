"""The rows of Table 4: what each leaves out of the method, and the runs that stand behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import agents
from experiments.benchmarking.executors import map_runs
from experiments.benchmarking.grid import TUNING_SEEDS_FROM, Cell, Grid
from experiments.running.directory import RunDirectory
from fusion_env.errors import ConfigError

__all__ = ["EQUATION_6", "FULL", "RUNS", "TEACHER", "VARIANTS", "Variant", "best_action", "check_grid", "variant_cells"]

FULL = "full"
"""What the other rows are compared with."""
TEACHER = "teacher"
"""A row that no run stands behind."""


RUNS = "runs"
"""Folder that holds one folder of runs for each row."""


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        title: For people.
        settings: What is left out: fields of `DistillConfig` that differ from the full method's.
        fixed: The best constant action acts in place of the agent.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    fixed: bool = False


VARIANTS = {
    "without-self-learning": Variant("w/o self-learning loss", {"self_learning": False}),
    "without-iqa": Variant("w/o IQA*", {"score_metrics": ("vif",)}),
    "without-vif": Variant("w/o VIF", {"score_metrics": ("iqa",)}),
    "without-student-state": Variant("w/o student's state", {"observation": "gap"}),
    "without-gap": Variant("w/o gap", {"observation": "performance"}),
    FULL: Variant("full method"),
    "fixed-action": Variant("fixed best action", fixed=True),
    "without-guidance": Variant("w/o teacher's guidance", {"guidance": False}),
}
"""The rows by name: those of the paper in its order, then two of our own."""

EQUATION_6 = {"score_metrics": ("vif", "iqa")}
"""E as the paper has it, whose parts the rows take away; other presets than ``paper`` may have more of them."""

_WHOLE = {"observation": "vector", **EQUATION_6, "guidance": True, "self_learning": True}
"""What the full method has, so that a row can be without it."""


def check_grid(grid: Grid) -> None:
    """Check that a grid is the full method on one task.

    Raises:
        ConfigError: It is of several tasks or agents, not ``online``, or lacks what a row is to be without.
    """
    if grid.protocol != "online" or len(grid.policies) != 1 or max(len(grid.teachers), len(grid.data)) > 1:
        raise ConfigError("an ablation is of one agent, one teacher and one data set, with protocol 'online'")
    task = grid.base
    for name, whole in _WHOLE.items():
        if getattr(task, name) != whole:
            raise ConfigError(f"{name} must be {whole!r}: rows take parts of it away. Got {getattr(task, name)!r}")


def best_action(grid: Grid, tried: int, out: Path) -> list[float]:
    """Try random constant actions, a run each from one stage-0 student, and return the best by reward.

    Seed, start and draw of the data are for tuning: no row has them.
    """
    search = replace(
        grid,
        protocol="across",
        policies=("random-search",),
        seeds=(TUNING_SEEDS_FROM,),
        stage0_seeds=(TUNING_SEEDS_FROM,),
        data_seeds=(TUNING_SEEDS_FROM,),
        runs=tried,
        eval_runs=1,
    )
    jobs = [cell.job for cell in search.cells(out / "search")]
    for job, _ in map_runs(jobs):
        found = agents.RandomSearch.load(RunDirectory(job.run_dir).agent)
    return np.asarray(found.best_action).tolist()


def variant_cells(grid: Grid, action: Sequence[float] | None, out: Path) -> list[tuple[str, Cell]]:
    """Return the runs of every row, with the row's name: the same seeds and stage-0 students for all.

    Args:
        grid: The full method.
        action: For the row with a fixed action; None: not known yet.
        out: Directory of the ablation.
    """
    cells = []
    for name, variant in VARIANTS.items():
        own = replace(grid, settings={**grid.settings, **variant.settings})
        if variant.fixed:
            settings = {} if action is None else {"constant": {"action": list(action)}}
            own = replace(own, policies=("constant",), agent_settings=settings)
        cells += [(name, cell) for cell in own.cells(out / RUNS / name)]
    return cells
