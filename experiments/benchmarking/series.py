"""The rounds of a benchmark's runs, and columns of them as arrays [runs, rounds], which curves are drawn from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarking.grid import Cell
from experiments.running.directory import RunDirectory

__all__ = ["Rounds", "judged_means", "judged_table", "phase_rewards", "phase_table", "rounds_of"]

Rounds = list[dict[str, str]]
"""The rows of one run directory."""


def rounds_of(cell: Cell) -> Rounds:
    """Read the rounds of a run."""
    return RunDirectory(cell.job.run_dir).rounds.read()


def phase_table(cell: Cell, rows: Rounds, phase: str, column: str) -> NDArray[np.float64]:
    """Return a column of one phase as [runs, rounds], NaN for rounds that were not played."""
    config = cell.job.config
    count, first = (config.runs, 0) if phase == "learn" else (config.eval_runs, config.runs)
    table = np.full((count, config.env.rounds), np.nan)
    for row in rows:
        if row["phase"] == phase:
            table[int(row["run"]) - first, int(row["round"]) - 1] = float(row[column])
    return table


def phase_rewards(cell: Cell, rows: Rounds, phase: str) -> NDArray[np.float64]:
    """Return the rewards [runs, rounds] of one phase, so that every run has the return that it was given."""
    env, first = cell.job.config.env, cell.job.config.runs if phase == "evaluate" else 0
    rewards = phase_table(cell, rows, phase, "reward")
    diverged = {int(row["run"]) - first for row in rows if row["phase"] == phase and row["diverged"] == "True"}
    for run, line in enumerate(rewards):
        missing = np.isnan(line)
        # The last reward of a run that diverged pays for all the rounds that it lost.
        lost = missing | np.append(missing[1:], False) if run in diverged else missing
        line[lost] = 0.0 if env.stop_at_parity and run not in diverged else env.divergence_reward
    return rewards


def judged_table(cell: Cell, rows: Rounds, column: str) -> NDArray[np.float64]:
    """Return a column of the runs that a policy is judged by: the frozen ones, or the last of `online`."""
    if cell.job.config.protocol == "across":
        return phase_table(cell, rows, "evaluate", column)
    return phase_table(cell, rows, "learn", column)[-1:]


def judged_means(own: Sequence[tuple[Cell, Rounds]], column: str) -> NDArray[np.float64]:
    """Average a column of the judged runs over those that had the round; NaN where none had."""
    values = np.concatenate([judged_table(cell, rows, column) for cell, rows in own])
    means = np.full(values.shape[1], np.nan)
    played = np.isfinite(values).any(axis=0)
    means[played] = np.nanmean(values[:, played], axis=0)
    return means
