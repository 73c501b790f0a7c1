"""Pictures of a benchmark: how the rewards developed, and what each policy did."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.benchmark_grid import Cell
from experiments.rounds_file import read_rounds
from fusion_env.action import ACTION_NAMES
from student.checkpoint import write_atomic

__all__ = ["draw_learning_curves", "draw_schedules"]

_RESAMPLES = 1000
_LINES = ("-", "--", ":")
Rounds = list[dict[str, str]]


def draw_learning_curves(cells: Sequence[Cell], path: Path) -> None:
    """Draw mean rewards with 95 % bootstrap bands over the runs of each policy.

    Under `online` by round of learning; under `across` by learning run, and, for the frozen policies, by round. Rounds
    that divergence took count as `divergence_reward` each, as they do in ``raw.csv``.
    """
    across = cells[0].job.config.protocol == "across"
    figure = Figure(figsize=(11 if across else 7, 4.5), layout="constrained")
    axes = figure.subplots(1, 1 + across, squeeze=False)[0]
    for index, (policy, own) in enumerate(_by_policy(cells).items()):
        style = _style(index, policy)
        learning = [_rewards(cell, rows, "learn") for cell, rows in own]
        if across:
            _curve(axes[0], [table.mean(axis=1) for table in learning], style)
            _curve(axes[1], [_rewards(cell, rows, "evaluate").mean(axis=0) for cell, rows in own], style)
        else:
            _curve(axes[0], [table.flatten() for table in learning], style)
    axes[0].set_xlabel("learning run" if across else "round")
    axes[0].set_ylabel("reward")
    axes[-1].set_xlabel("round" + (" (frozen policy)" if across else ""))
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    _save(figure, path)


def draw_schedules(cells: Sequence[Cell], path: Path) -> None:
    """Draw the mean of each of the seven actions over the rounds of the judged runs, for each policy.

    A run that ended early counts in the rounds that it had.
    """
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey=True).flatten()
    for index, (policy, own) in enumerate(_by_policy(cells).items()):
        for axis, name in zip(axes, ACTION_NAMES, strict=False):
            actions = np.concatenate([_judged(cell, rows, f"action_{name}") for cell, rows in own])
            played = np.flatnonzero(np.isfinite(actions).any(axis=0))
            axis.plot(played + 1, np.nanmean(actions[:, played], axis=0), linewidth=1.2, **_style(index, policy))
    for axis, name in zip(axes, ACTION_NAMES, strict=False):
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_ylim(-1.05, 1.05)
        axis.grid(alpha=0.3)
    axes[-1].set_axis_off()
    axes[-1].legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="center")
    figure.supxlabel("round")
    _save(figure, path)


def _style(index: int, policy: str) -> dict[str, str]:
    return {"color": f"C{index % 10}", "linestyle": _LINES[index // 10 % len(_LINES)], "label": policy}


def _by_policy(cells: Sequence[Cell]) -> dict[str, list[tuple[Cell, Rounds]]]:
    tables: dict[str, list[tuple[Cell, Rounds]]] = {}
    for cell in cells:
        tables.setdefault(cell.policy, []).append((cell, read_rounds(cell.job.run_dir)))
    return tables


def _table(cell: Cell, rows: Rounds, phase: str, column: str) -> NDArray[np.float64]:
    """Return a column of one phase as [runs, rounds], NaN for rounds that were not played."""
    config = cell.job.config
    count, first = (config.runs, 0) if phase == "learn" else (config.eval_runs, config.runs)
    table = np.full((count, config.env.rounds), np.nan)
    for row in rows:
        if row["phase"] == phase:
            table[int(row["run"]) - first, int(row["round"]) - 1] = float(row[column])
    return table


def _rewards(cell: Cell, rows: Rounds, phase: str) -> NDArray[np.float64]:
    """Return the rewards [runs, rounds] of one phase, so that every run has the return that it was given."""
    env, first = cell.job.config.env, cell.job.config.runs if phase == "evaluate" else 0
    rewards = _table(cell, rows, phase, "reward")
    diverged = {int(row["run"]) - first for row in rows if row["phase"] == phase and row["diverged"] == "True"}
    for run, line in enumerate(rewards):
        missing = np.isnan(line)
        # The last reward of a run that diverged pays for all the rounds that it lost.
        lost = missing | np.append(missing[1:], False) if run in diverged else missing
        line[lost] = 0.0 if env.stop_at_parity and run not in diverged else env.divergence_reward
    return rewards


def _judged(cell: Cell, rows: Rounds, column: str) -> NDArray[np.float64]:
    if cell.job.config.protocol == "across":
        return _table(cell, rows, "evaluate", column)
    return _table(cell, rows, "learn", column)[-1:]


def _curve(axis: Axes, curves: Sequence[NDArray[np.float64]], style: dict[str, str]) -> None:
    values = np.stack(curves)
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
