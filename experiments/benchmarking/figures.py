"""Pictures of a benchmark: how the rewards developed, and what each policy did."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.benchmarking.grid import Cell
from experiments.benchmarking.series import Rounds, judged_means, phase_rewards, rounds_of
from experiments.output import save_figure
from fusion_env.action import ACTION_NAMES

__all__ = ["draw_learning_curves", "draw_schedules"]

_RESAMPLES = 1000
_LINES = ("-", "--", ":")
_COLUMNS = 4  # of the pictures of schedules


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
        learning = [phase_rewards(cell, rows, "learn") for cell, rows in own]
        if across:
            _curve(axes[0], [table.mean(axis=1) for table in learning], style)
            _curve(axes[1], [phase_rewards(cell, rows, "evaluate").mean(axis=0) for cell, rows in own], style)
        else:
            _curve(axes[0], [table.flatten() for table in learning], style)
    axes[0].set_xlabel("learning run" if across else "round")
    axes[0].set_ylabel("reward")
    axes[-1].set_xlabel("round" + (" (frozen policy)" if across else ""))
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


def draw_schedules(cells: Sequence[Cell], path: Path) -> None:
    """Draw the mean of each number of the action over the rounds of the judged runs as colours, a line a policy.

    The last picture is the weight of the guidance loss that the two logits come to, with -1 for 0. A run that ended
    early counts in the rounds that it had; rounds that no run had are white.
    """
    policies = _by_policy(cells)
    lines = {name.replace("_", " "): _means(policies, f"action_{name}") for name in ACTION_NAMES}
    lines["guidance weight, from 0 to 1"] = 2 * _means(policies, "weight_guidance") - 1
    rows = math.ceil(len(lines) / _COLUMNS)
    figure = Figure(figsize=(13, rows * (0.6 + 0.2 * len(policies))), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True)
    for axis, (title, means) in zip(axes.flat, lines.items(), strict=False):
        image = _draw_means(axis, means, title)
    for axis in axes.flat[len(lines) :]:
        axis.set_axis_off()
    axes[0, 0].set_yticks(range(len(policies)), list(policies))
    for axis in axes.flat:
        axis.tick_params(labelsize=8)
    figure.colorbar(image, ax=axes, label="mean over the runs", pad=0.01)
    figure.supxlabel("round", fontsize=10)
    save_figure(figure, path, dpi=110)


def _means(policies: Mapping[str, Sequence[tuple[Cell, Rounds]]], column: str) -> NDArray[np.float64]:
    return np.stack([judged_means(own, column) for own in policies.values()])


def _draw_means(axis: Axes, means: NDArray[np.float64], title: str) -> AxesImage:
    """Draw means [policies, rounds] as colours."""
    image = axis.imshow(
        means,
        cmap="coolwarm",
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(0.5, means.shape[1] + 0.5, len(means) - 0.5, -0.5),
    )
    axis.set_title(title, fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return image


def _style(index: int, policy: str) -> dict[str, Any]:
    return {"color": f"C{index % 10}", "linestyle": _LINES[index // 10 % len(_LINES)], "label": policy}


def _by_policy(cells: Sequence[Cell]) -> dict[str, list[tuple[Cell, Rounds]]]:
    tables: dict[str, list[tuple[Cell, Rounds]]] = {}
    for cell in cells:
        tables.setdefault(cell.policy, []).append((cell, rounds_of(cell)))
    return tables


def _curve(axis: Axes, curves: Sequence[NDArray[np.float64]], style: dict[str, Any]) -> None:
    values = np.stack(curves)
    if not values.size:
        return
    rng = np.random.default_rng(0)
    resampled = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    x = np.arange(1, values.shape[1] + 1)
    axis.plot(x, values.mean(axis=0), linewidth=1.2, **style)
    axis.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
