"""The numbers of a benchmark: one row for each run, and a table of the policies on one task with uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.benchmarking.grid import CONTROL, Cell
from experiments.benchmarking.uncertainty import (
    FEWEST_UNITS,
    Difference,
    holm,
    make_strata,
    middle_half,
    paired_difference,
    probability_of_improvement,
    unit_interval,
)
from experiments.evaluation.baselines import CONTRAST
from experiments.output import markdown_table

__all__ = [
    "RAW_FILE",
    "TASK",
    "UNIT",
    "Row",
    "judged_report",
    "raw_row",
    "results_table",
    "shown_probability",
    "unit_means",
]

RAW_FILE = "raw.csv"
TASK = ("task", "teacher", "data")
"""Columns of what is not pooled: scores on two tasks have different units."""
UNIT = ("stage0_seed", "data_seed")
"""Columns of a start: a stage-0 student on a draw of the data."""
RIVALS = ("constant", "random")
"""Policies that the others are compared with pair by pair, beside the control."""

_VARIANTS = {"last": "last round", "unsharp": "+ unsharp", "contrast": f"contrast x{CONTRAST}"}
"""The student of the last round, and the delivered one with its output post-processed: their final gaps."""

_FLOORS = {"stage0": "*stage-0 student*", "laplacian": "*Laplacian*", "average": "*average*"}
"""What is there without training, by the name of its report."""

Row = dict[str, Any]


def raw_row(cell: Cell, summary: Mapping[str, Any]) -> Row:
    """Return what one run came to.

    `mean_reward` is the area under the reward curve of the judged runs divided by their rounds; higher is better. Rows
    of tuning seeds end there: nobody may choose settings by the report split. `report_gap` is E(student) - E(teacher)
    on it, higher is better, `report_mae` the distance to the teacher's images. The student is the one that a run
    delivers, its best by the reward split, taken after `best_round` rounds; `last_gap` is that of its last round,
    `unsharp_gap` and `contrast_gap` are those of its output post-processed. A judged run that failed counts as E = -1.
    Only the columns that start with ``seconds`` depend on the machine.
    """
    config = cell.job.config
    known = summary.get("fingerprints", {})  # runs of older versions have none
    return {
        "protocol": config.protocol,
        "task": config.task or "",
        "preset": config.preset,
        "policy": cell.policy,
        "teacher": cell.teacher,
        "data": cell.data,
        "teacher_fingerprint": known.get("teacher", ""),
        "data_fingerprint": known.get("data", ""),
        "seed": cell.seed,
        "stage0_seed": cell.stage0_seed,
        "data_seed": cell.data_seed,
        "rounds": config.env.rounds,
        "mean_reward": summary["return"] / config.env.rounds,
        "best_round": float(np.mean(summary.get("best_rounds", [np.nan]))),
        **({} if cell.is_tuning else _report_columns(summary)),
        "learning_rounds": summary["learning_rounds"],
        "planning_rounds": summary.get("planning_rounds", 0),
        "judged_rounds": summary["judged_rounds"],
        "gradient_updates": summary["gradient_updates"],
        "diverged_runs": summary["diverged_runs"],
        "failed_runs": summary.get("failed_runs", 0),
        "seconds_training": summary["seconds"]["training"],
        "seconds_frozen": summary["seconds"]["frozen"],
    }


def judged_report(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the report of a run by which it is ranked: where it failed, with the worst scores there are."""
    return summary["report"] | summary.get("ranked", {})  # older versions did not tell failed runs


def _report_columns(summary: Mapping[str, Any]) -> Row:
    report = judged_report(summary)
    return {
        "report_gap": _gap(report, "final"),
        **{f"{name}_gap": _gap(report, name) for name in (*_VARIANTS, *_FLOORS)},
        "report_mae": report["final"]["mae"],
        "report_ssim_teacher": report["final"]["ssim_teacher"],
        **{f"{name}_mae": report[name]["mae"] for name in _FLOORS if name in report},
    }


def _gap(report: Mapping[str, Mapping[str, float]], name: str) -> float:
    """Return E - E(teacher); NaN for what an older version did not score."""
    return report[name]["e"] - report["teacher"]["e"] if name in report else np.nan


def unit_means(rows: Sequence[Row], policy: str, column: str) -> dict[tuple[Any, ...], float]:
    """Return a column of a policy's rows by start, averaged over the runs from each."""
    own = [row for row in rows if row["policy"] == policy]
    units = sorted({_unit(row) for row in own})
    return dict(zip(units, (float(runs.mean()) for runs in make_strata(own, column, UNIT)), strict=True))


def _unit(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in UNIT)


def results_table(rows: Sequence[Row], small_sample: Sequence[str] = ()) -> str:
    """Compare the policies on one task as a Markdown table, the best first.

    Interquartile means over the starts of a policy with 95 % intervals, and the mean difference to the control from the
    same starts, by which the table is sorted, with its probability corrected for the number of policies. Beside the
    delivered students' gaps stand those of the last round, and what post-processing makes of them; below, what is there
    without training. Rows of tuning seeds are compared by their rewards.

    Args:
        rows: Rows of `raw_row`, all of one protocol and task.
        small_sample: Policies to mark as learning from far fewer rounds than they are made for.

    Raises:
        ValueError: The rows are of several tasks.
    """
    if len({tuple(row[name] for name in TASK) for row in rows}) > 1:
        raise ValueError(f"scores on several tasks have different units: give the rows of one ({', '.join(TASK)}).")
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    score = "report_gap" if "report_gap" in rows[0] else "mean_reward"
    differences = _differences(rows, policies, score)
    rivals = [name for name in RIVALS if name in policies]
    lines = [_cells(rows, policy, score, differences, rivals) for policy in policies]
    lines.sort(key=lambda cells: _rank(rows, str(cells["policy"]), score, differences), reverse=True)
    for cells in lines:
        cells["policy"] = f"{cells['policy']} †" if cells["policy"] in small_sample else cells["policy"]
    header = list(lines[0])
    floors = [_floor_line(rows, name, header) for name in _FLOORS] if score == "report_gap" else []
    body = [markdown_table(header, [*(cells.values() for cells in lines), *floors])]
    if any(policy in small_sample for policy in policies):
        body.append("\n† off-policy in one run: the small-sample regime; judged fairly only by the protocol `across`.")
    units = min(len(unit_means(rows, policy, score)) for policy in policies)
    if units < FEWEST_UNITS:
        body.append(
            f"\n**Intervals are too narrow or missing, differences may be chance: there are only {units} start(s). "
            f"Give at least {FEWEST_UNITS} combinations of stage-0 seed and data seed, and as many seeds.**"
        )
    return "\n".join(body)


def _differences(rows: Sequence[Row], policies: Sequence[str], score: str) -> dict[str, Difference]:
    """Compare every policy with the control, start by start; `p` is corrected for their number."""
    if CONTROL not in policies:
        return {}
    control = unit_means(rows, CONTROL, score)
    found = {}
    for policy in policies:
        own = unit_means(rows, policy, score)
        if policy != CONTROL:
            found[policy] = paired_difference([own[unit] for unit in control], list(control.values()))
    corrected = holm([difference.p for difference in found.values()])
    return {policy: replace(one, p=p) for (policy, one), p in zip(found.items(), corrected, strict=True)}


def _rank(rows: Sequence[Row], policy: str, score: str, differences: Mapping[str, Difference]) -> float:
    """Return what a policy is sorted by: a mean, in which every failure counts."""
    if not differences:
        return float(np.mean(list(unit_means(rows, policy, score).values())))
    return differences[policy].value if policy in differences else 0.0


def _cells(
    rows: Sequence[Row], policy: str, score: str, differences: Mapping[str, Difference], rivals: Sequence[str]
) -> dict[str, object]:
    own = [row for row in rows if row["policy"] == policy]
    units = unit_means(rows, policy, score)
    cells: dict[str, object] = {"policy": policy, "n": len(own), "starts": len(units)}
    if score == "report_gap":
        cells["final gap"] = _iqm(rows, policy, score)
    if differences:
        cells[f"less {CONTROL}"] = f"{differences[policy]:+.4f}" if policy in differences else "-"
        cells["p (Holm)"] = shown_probability(differences[policy].p) if policy in differences else "-"
    cells["mean reward"] = _iqm(rows, policy, "mean_reward")
    if score == "report_gap":
        cells["MAE to teacher"] = _iqm(rows, policy, "report_mae")
    for rival in rivals:
        cells[f"P(better than {rival})"] = "-" if rival == policy else _improvement(rows, policy, rival, score)
    rounds = [_median(own, f"{kind}_rounds") for kind in ("learning", "planning", "judged")]
    cells["learning / planning / judged rounds"] = " / ".join(rounds)
    cells["updates"] = _median(own, "gradient_updates")
    cells["seconds"] = f"{np.median([row['seconds_training'] + row['seconds_frozen'] for row in own]):.0f}"
    cells["failed"] = str(sum(row["failed_runs"] for row in own))
    if score == "report_gap":
        cells |= {title: _iqm(rows, policy, f"{name}_gap") for name, title in _VARIANTS.items()}
    cells["of round"] = _median(own, "best_round")
    return cells


def _floor_line(rows: Sequence[Row], name: str, header: Sequence[str]) -> list[str]:
    """Say what there is without training: one value for each start, whoever ran."""
    values = {_unit(row): (row[f"{name}_gap"], row.get(f"{name}_mae", np.nan)) for row in rows}
    gap, mae = np.mean(list(values.values()), axis=0)
    known = {
        "policy": _FLOORS[name],
        "starts": str(len(values)),
        "final gap": f"{gap:.3f}",
        "MAE to teacher": f"{mae:.3f}",
    }
    return [known.get(title, "") for title in header]


def _iqm(rows: Sequence[Row], policy: str, column: str) -> str:
    return f"{unit_interval(middle_half, list(unit_means(rows, policy, column).values())):.3f}"


def _improvement(rows: Sequence[Row], policy: str, rival: str, score: str) -> str:
    mine, others = (make_strata((row for row in rows if row["policy"] == one), score, UNIT) for one in (policy, rival))
    shares = [probability_of_improvement([ours], [theirs]) for ours, theirs in zip(mine, others, strict=True)]
    return f"{unit_interval(lambda drawn: drawn.mean(axis=0), shares):.2f}"


def shown_probability(p: float) -> str:
    """Write a probability with three digits."""
    return "-" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _median(rows: Sequence[Row], column: str) -> str:
    return f"{np.median([row[column] for row in rows]):.0f}"
