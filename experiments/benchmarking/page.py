"""The page that a benchmark writes for people: what was run, and how the policies compare."""

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import agents
from experiments.benchmarking.grid import Cell, Grid
from experiments.benchmarking.table import RAW_FILE, Row, results_table

__all__ = ["results_page"]

_FEW_STARTS = 3


def results_page(
    grid: Grid, cells: Sequence[Cell], rows: Sequence[Row], summaries: Sequence[dict[str, Any]], command: str
) -> str:
    """Write the content of ``results.md``.

    Args:
        grid: What was compared.
        cells: Its runs.
        rows: What each came to, in the same order.
        summaries: The content of each ``summary.json``, in the same order.
        command: How the benchmark was called.
    """
    tasks = list(dict.fromkeys((cell.teacher, cell.data) for cell in cells))
    small_sample = [name for name in grid.policies if grid.protocol == "online" and _is_off_policy(name)]
    lines = [*_head(grid, cells), results_table(rows, small_sample), ""]
    for task in tasks:
        chosen = [index for index, cell in enumerate(cells) if (cell.teacher, cell.data) == task]
        if len(tasks) > 1:
            own = [rows[index] for index in chosen]
            lines += [f"## Teacher {task[0]}, data {task[1]}", "", results_table(own, small_sample), ""]
        lines += [f"- {name}: {value}" for name, value in summaries[chosen[0]]["used"].items()]
        lines.append("")
    versions = summaries[0]["versions"].items()
    lines += [
        f"    {command}",
        "",
        "Versions: " + ", ".join(f"{name} {value}" for name, value in versions),
        "",
        f"One row for each run: [{RAW_FILE}]({RAW_FILE}). ![rewards](learning_curves.png) ![actions](schedules.png)",
        "",
    ]
    return "\n".join(lines)


def _head(grid: Grid, cells: Sequence[Cell]) -> list[str]:
    rounds = cells[0].job.config.env.rounds
    judged = (
        f"{rounds} rounds while learning; the student of the last of {grid.runs} run(s) is scored"
        if grid.protocol == "online"
        else f"{grid.runs} learning runs of {rounds} rounds, then {grid.eval_runs} runs of the frozen "
        "policy, whose students are scored; policies that cannot learn skip the learning runs"
    )
    lines = [f"# Benchmark, protocol `{grid.protocol}`", ""]
    if grid.is_tuning:
        lines += ["**Tuning seeds: for choosing settings, not for reporting.**", ""]
    if len({cell.stage0_seed for cell in cells}) < _FEW_STARTS:
        lines += [f"**Fewer than {_FEW_STARTS} stage-0 seeds: what is seen may be the doing of a start.**", ""]
    changed = "; ".join(f"`{name}` {dict(settings)}" for name, settings in grid.agent_settings.items())
    return [
        *lines,
        *([f"Settings of agents other than their own: {changed}.", ""] if changed else []),
        f"Settings of {grid.start}: {judged}. Seeds {', '.join(map(str, grid.seeds))}; the stage-0 seeds "
        f"{', '.join(map(str, grid.stage0_seeds))} take turns.",
        "Interquartile means with 95 % bootstrap intervals, stratified by task and stage-0 seed. *Final gap* is "
        "E(student) - E(teacher) on the report split, which no policy sees; *mean reward* the area under the reward "
        "curve per round. Higher is better, but for the MAE. A run delivers its best student by the reward split (*of "
        "round*: the median). Beside it stand the student of its last round, and the delivered one's output sharpened "
        "(unsharp masking) and with more contrast: where these beat the policies, E is cheaper to buy than to learn.",
        "",
    ]


def _is_off_policy(name: str) -> bool:
    return name in agents.names() and issubclass(agents.algorithm(name), OffPolicyAlgorithm)
