"""The numbers of a benchmark: one row for each run, and a table of policies with uncertainty."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarking.grid import Cell
from experiments.benchmarking.uncertainty import interquartile_mean, interval, make_strata, probability_of_improvement
from experiments.evaluation.baselines import CONTRAST
from experiments.output import markdown_table

__all__ = ["RAW_FILE", "Row", "raw_row", "results_table"]

RAW_FILE = "raw.csv"
STRATUM = ("teacher", "data", "stage0_seed")
RIVALS = ("constant", "random")
"""Policies that the others are compared with pair by pair."""

# Below that a stratum hardly varies when it is drawn from itself.
_FEW_RUNS = 3

_VARIANTS = {"last": "last round", "unsharp": "+ unsharp", "contrast": f"contrast x{CONTRAST}"}
"""The student of the last round, and the delivered one with its output post-processed: their final gaps."""

_FLOORS = {"stage0": "*stage-0 student*", "laplacian": "*Laplacian*", "average": "*average*"}
"""What is there without training, by the name of its report."""

Row = dict[str, Any]


def raw_row(cell: Cell, summary: Mapping[str, Any]) -> Row:
    """Return what one run came to.

    `report_gap` is E(student) - E(teacher) on the report split, `mean_reward` the area under the reward curve of the
    judged runs divided by their rounds; both are higher for better students. `report_mae` is the distance to the
    teacher's images. The student is the one that a run delivers, its best by the reward split, taken after
    `best_round` rounds; `last_gap` is that of its last round, `unsharp_gap` and `contrast_gap` are those of its output
    post-processed. Only the columns that start with ``seconds`` depend on the machine.
    """
    report, config = summary["report"], cell.job.config
    known = summary.get("fingerprints", {})  # runs of older versions have none
    return {
        "protocol": config.protocol,
        "task": config.task or "",
        "policy": cell.policy,
        "teacher": cell.teacher,
        "data": cell.data,
        "teacher_fingerprint": known.get("teacher", ""),
        "data_fingerprint": known.get("data", ""),
        "seed": cell.seed,
        "stage0_seed": cell.stage0_seed,
        "report_gap": _gap(report, "final"),
        "mean_reward": summary["return"] / config.env.rounds,
        "best_round": float(np.mean(summary.get("best_rounds", [np.nan]))),
        **{f"{name}_gap": _gap(report, name) for name in (*_VARIANTS, *_FLOORS)},
        "report_mae": report["final"]["mae"],
        "report_ssim_teacher": report["final"]["ssim_teacher"],
        **{f"{name}_mae": report[name]["mae"] for name in _FLOORS if name in report},
        "learning_rounds": summary["learning_rounds"],
        "judged_rounds": summary["judged_rounds"],
        "planning_rounds": summary.get("planning_rounds", 0),
        "gradient_updates": summary["gradient_updates"],
        "diverged_runs": summary["diverged_runs"],
        "seconds_training": summary["seconds"]["training"],
        "seconds_frozen": summary["seconds"]["frozen"],
    }


def _gap(report: Mapping[str, Mapping[str, float]], name: str) -> float:
    """Return E - E(teacher); NaN for what an older version did not score."""
    return report[name]["e"] - report["teacher"]["e"] if name in report else np.nan


def results_table(rows: Sequence[Row], small_sample: Sequence[str] = ()) -> str:
    """Compare the policies as a Markdown table, the best `report_gap` first.

    Interquartile means over all runs of a policy with 95 % intervals from a bootstrap that is stratified by teacher,
    data and stage-0 seed, and each policy's probability of a better report score than `constant` and `random`. Beside
    the delivered students' gaps stand those of the last round, and what post-processing makes of them; below, what is
    there without training.

    Args:
        rows: Rows of `raw_row`, all of one protocol.
        small_sample: Policies to mark as learning from far fewer rounds than they are made for.
    """
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    rivals = [name for name in RIVALS if name in policies]
    header = ["policy", "n", "final gap", "mean reward", "MAE to teacher"]
    header += [f"P(better than {name})" for name in rivals]
    header += ["learning / judged rounds", "updates", "seconds", "diverged", *_VARIANTS.values(), "of round"]
    lines = []
    for policy in sorted(policies, key=lambda name: -interquartile_mean(_strata(rows, name, "report_gap"))):
        mark = " †" if policy in small_sample else ""
        lines.append([policy + mark, *_cells(rows, policy, rivals)])
    lines += [_floor_line(rows, name, len(header)) for name in _FLOORS]
    body = [markdown_table(header, lines)]
    if any(policy in small_sample for policy in policies):
        body.append("\n† off-policy in one run: the small-sample regime; judged fairly only by the protocol `across`.")
    smallest = min(len(stratum) for name in policies for stratum in _strata(rows, name, "report_gap"))
    if smallest < _FEW_RUNS:
        body.append(
            f"\nIntervals are too narrow or missing: of some stage-0 students there are only {smallest} run(s). Give "
            f"at least {_FEW_RUNS} seeds for each stage-0 seed."
        )
    return "\n".join(body)


def _cells(rows: Sequence[Row], policy: str, rivals: Sequence[str]) -> list[str]:
    own = [row for row in rows if row["policy"] == policy]
    cells = [str(len(own))]
    for column in ("report_gap", "mean_reward", "report_mae"):
        cells.append(_estimate(3, interquartile_mean, _strata(rows, policy, column)))
    for rival in rivals:
        samples = (_strata(rows, name, "report_gap") for name in (policy, rival))
        cells.append("-" if rival == policy else _estimate(2, probability_of_improvement, *samples))
    planned = _median(own, "planning_rounds")
    rounds = f"{_median(own, 'learning_rounds')} / {_median(own, 'judged_rounds')}"
    cells.append(rounds if planned == "0" else f"{rounds} (+ {planned} to plan)")
    cells.append(_median(own, "gradient_updates"))
    cells.append(f"{np.median([row['seconds_training'] + row['seconds_frozen'] for row in own]):.0f}")
    cells.append(str(sum(row["diverged_runs"] for row in own)))
    cells += [_estimate(3, interquartile_mean, _strata(rows, policy, f"{name}_gap")) for name in _VARIANTS]
    cells.append(_median(own, "best_round"))
    return cells


def _floor_line(rows: Sequence[Row], name: str, columns: int) -> list[str]:
    """Say what there is without training: one value for each task, whoever ran."""
    values = {tuple(row[key] for key in STRATUM): (row[f"{name}_gap"], row.get(f"{name}_mae", np.nan)) for row in rows}
    gap, mae = np.mean(list(values.values()), axis=0)
    return [_FLOORS[name], f"{len(values)}", f"{gap:.3f}", "", f"{mae:.3f}", *[""] * (columns - 5)]


def _estimate(digits: int, statistic: Callable[..., float], *samples: list[NDArray[np.float64]]) -> str:
    """Write a statistic with its interval, or alone where no stratum holds two runs that could be drawn from."""
    if all(len(stratum) == 1 for strata in samples for stratum in strata):
        return f"{statistic(*samples):.{digits}f}"
    return f"{interval(statistic, *samples):.{digits}f}"


def _strata(rows: Sequence[Row], policy: str, column: str) -> list[NDArray[np.float64]]:
    return make_strata((row for row in rows if row["policy"] == policy), column, STRATUM)


def _median(rows: Sequence[Row], column: str) -> str:
    return f"{np.median([row[column] for row in rows]):.0f}"
