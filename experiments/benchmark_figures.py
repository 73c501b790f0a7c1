"""Pictures of a benchmark: how the rewards developed, and what each policy did."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.benchmark_grid import Cell
from experiments.rounds_file import read_rounds
from fusion_env.action import ACTION_NAMES
from student.checkpoint import write_atomic

__all__ = ["draw_learning_curves", "draw_schedules"]

_RESAMPLES = 1000
Rounds = list[dict[str, str]]


def draw_learning_curves(cells: Sequence[Cell], path: Path) -> None:
    """Draw mean rewards with 95 % bootstrap bands over the runs of each policy.

    Under `online` by round; under `across` by learning run, and, for the frozen policies, by round.
    """
    across = cells[0].job.config.protocol == "across"
    figure = Figure(figsize=(11 if across else 7, 4.5), layout="constrained")
    axes = figure.subplots(1, 1 + across, squeeze=False)[0]
    for index, (policy, tables) in enumerate(_by_policy(cells).items()):
        style = {"color": f"C{index % 10}", "linestyle": ("-", "--", ":")[index // 10], "label": policy}
        if across:
            _curve(axes[0], [_mean_by(rows, "learn", "run") for rows in tables], style)
            _curve(axes[1], [_mean_by(rows, "evaluate", "round") for rows in tables], style)
        else:
            _curve(axes[0], [_mean_by(rows, "learn", "round") for rows in tables], style)
    axes[0].set_xlabel("learning run" if across else "round")
    axes[0].set_ylabel("reward")
    axes[-1].set_xlabel("round" + (" (frozen policy)" if across else ""))
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in axes:
        axis.grid(alpha=0.3)
    _save(figure, path)


def draw_schedules(cells: Sequence[Cell], path: Path) -> None:
    """Draw the mean of each of the seven actions over the rounds of the judged runs, for each policy."""
    phase = "evaluate" if cells[0].job.config.protocol == "across" else "learn"
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey=True).flatten()
    for index, (policy, tables) in enumerate(_by_policy(cells).items()):
        style = {"color": f"C{index % 10}", "linestyle": ("-", "--", ":")[index // 10], "label": policy}
        for axis, name in zip(axes, ACTION_NAMES, strict=False):
            curves = [_mean_by(rows, phase, "round", f"action_{name}") for rows in tables]
            mean = _rectangle(curves).mean(axis=0)
            axis.plot(np.arange(1, len(mean) + 1), mean, linewidth=1.2, **style)
    for axis, name in zip(axes, ACTION_NAMES, strict=False):
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_ylim(-1.05, 1.05)
        axis.grid(alpha=0.3)
    axes[-1].set_axis_off()
    axes[-1].legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="center")
    figure.supxlabel("round")
    _save(figure, path)


def _by_policy(cells: Sequence[Cell]) -> dict[str, list[Rounds]]:
    tables: dict[str, list[Rounds]] = {}
    for cell in cells:
        tables.setdefault(cell.policy, []).append(read_rounds(cell.job.run_dir))
    return tables


def _mean_by(rows: Rounds, phase: str, key: str, column: str = "reward") -> NDArray[np.float64]:
    """Average a column over the rows of a phase that agree in `key`, in its order."""
    groups: dict[int, list[float]] = {}
    for row in rows:
        if row["phase"] == phase:
            groups.setdefault(int(row[key]), []).append(float(row[column]))
    return np.array([np.mean(groups[value]) for value in sorted(groups)])


def _rectangle(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack curves; those of runs that ended early are cut off for all."""
    length = min(len(curve) for curve in curves)
    return np.stack([curve[:length] for curve in curves])


def _curve(axis: Axes, curves: Sequence[NDArray[np.float64]], style: dict[str, str]) -> None:
    values = _rectangle(curves)
    if not values.size:
        return
    rng = np.random.default_rng(0)
    resampled = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    x = np.arange(1, values.shape[1] + 1)
    axis.plot(x, values.mean(axis=0), linewidth=1.2, **style)
    axis.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
