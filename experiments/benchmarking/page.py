"""The page that a benchmark writes for people: what was run, and how the policies compare."""

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import agents
from experiments.benchmarking.grid import CONTROL, LONG_CONTROL, Cell, Grid
from experiments.benchmarking.table import RAW_FILE, Row, results_table

__all__ = ["results_page"]


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
    lines = _head(grid, cells)
    for teacher, data in tasks:
        chosen = [index for index, cell in enumerate(cells) if (cell.teacher, cell.data) == (teacher, data)]
        if len(tasks) > 1:
            lines += [f"## Teacher {teacher}, data {data}", ""]
        lines += [results_table([rows[index] for index in chosen], small_sample), ""]
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
    rounds = grid.base.rounds
    judged = (
        f"{rounds} rounds while learning; the student of the last of {grid.runs} run(s) is scored"
        if grid.protocol == "online"
        else f"{grid.runs} learning runs of {rounds} rounds, then {grid.eval_runs} runs of the frozen "
        "policy, whose students are scored; policies that cannot learn skip the learning runs"
    )
    lines = [f"# Benchmark, protocol `{grid.protocol}`", ""]
    if grid.is_tuning:
        lines += ["**Tuning seeds: for choosing settings, by reward alone, not for reporting.**", ""]
    changed = "; ".join(f"`{name}` {dict(settings)}" for name, settings in grid.agent_settings.items())
    starts, draws = (sorted({getattr(cell, name) for cell in cells}) for name in ("stage0_seed", "data_seed"))
    lines += [
        *([f"Settings of agents other than their own: {changed}.", ""] if changed else []),
        f"Settings of {grid.start}: {judged}. Seeds {_listed(grid.seeds)}; the stage-0 seeds "
        f"{_listed(starts)} and the draws of the data {_listed(draws)} take turns.",
        "A *start* is a stage-0 student on a draw of the data. Interquartile means over starts with 95 % intervals "
        f"(expanded bootstrap). *Less {CONTROL}*: the mean difference from the same starts, seeds and draws with "
        "Student's 95 % interval; its probability is corrected for the number of policies. The table is sorted by it. "
        "A run that failed counts as E = -1.",
    ]
    if not grid.is_tuning:
        lines.append(
            "*Final gap* is E(student) - E(teacher) on the report split, which no policy sees; *mean reward* the area "
            "under the reward curve per round. Higher is better, but for the MAE. A run delivers its best student by "
            "the reward split (*of round*: the median). Beside it stand the student of its last round, and the "
            "delivered one's output sharpened (unsharp masking) and with more contrast: where these beat the policies, "
            "E is cheaper to buy than to learn."
        )
    if LONG_CONTROL in grid.policies:
        lines.append(
            f"*{LONG_CONTROL}* trains one student for {grid.runs + 1} times the rounds: what a learner takes to learn "
            "and to train one."
        )
    return [*lines, ""]


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _is_off_policy(name: str) -> bool:
    return name in agents.names() and issubclass(agents.algorithm(name), OffPolicyAlgorithm)
