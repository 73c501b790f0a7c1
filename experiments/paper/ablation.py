"""Table 4: the method without each of its parts, as a grid of runs that differ in one setting each."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarking.executors import Resources, map_runs
from experiments.benchmarking.grid import Cell, Grid
from experiments.output import write_csv, write_text
from experiments.paper.ablation_page import ablation_page
from experiments.paper.ablation_variants import EQUATION_6, TEACHER, VARIANTS, best_action, check_grid, variant_cells
from experiments.paper.ledger import Ledger, Piece, Row, logged, work_through
from experiments.paper.methods import PUBLISHED, Method, student_method, teacher_method
from experiments.paper.order import Order
from experiments.paper.pair_sets import PairSet, ordered_sets
from experiments.paper.table1 import METRICS, score
from experiments.running.directory import RunDirectory
from fusion_env import teachers
from fusion_env.action import decode_action
from fusion_env.config import MACHINE_ONLY
from fusion_env.data import data_sets
from fusion_env.errors import MissingRequirementsError

__all__ = ["TRIED", "ablation", "make"]

_SEEDS = (0, 1, 2, 3, 4, 5)
"""Six: fewer cannot tell a difference from chance."""
TRIED = 10
"""Constant actions among which the best one is sought."""
_DEMO_ROUNDS = 25


def make(order: Order) -> Path:
    """Run the ablation of an order: on M3FD with the paper's teacher, or on procedural scenes in the demo.

    Raises:
        MissingRequirementsError: The preset is ``paper``, and M3FD or the teacher's weights are missing.
    """
    seeds = order.seeds or _SEEDS
    is_paper = order.preset == "paper"
    settings = EQUATION_6 | {"device": order.device, "threads": order.threads or 1}
    grid = Grid(
        protocol="online",
        policies=("reinforce-paper" if is_paper else "reinforce",),
        seeds=seeds,
        stage0_seeds=seeds,
        preset="paper" if is_paper else "bench",
        settings=settings | (_paper_task(order) if is_paper else {"rounds": _DEMO_ROUNDS}),
    )
    return ablation(grid, ordered_sets(order), order.folder("table4"), tried=TRIED, command=order.command)


def _paper_task(order: Order) -> dict[str, Any]:
    folder = (order.data_root or Path()) / data_sets.get("m3fd").folder
    absent = "" if folder.is_dir() else f"{data_sets.get('m3fd').title} is not in {folder}: set --data-root"
    problems = [problem for problem in (teachers.missing(PUBLISHED[0]), absent) if problem]
    if problems:
        raise MissingRequirementsError(f"the paper's ablation cannot run: {'; '.join(problems)}")
    return {"data_root": str(folder)}


def ablation(
    grid: Grid,
    sets: Sequence[PairSet],
    out: Path,
    *,
    tried: int = TRIED,
    executor: str = "inline",
    resources: Resources | None = None,
    command: str = "experiments.paper.ablation.ablation(...)",
) -> Path:
    """Run every row of the table with every seed, score the students on test sets, and compare.

    Args:
        grid: The full method on one task; its seeds and stage-0 seeds are those of every row.
        sets: What the students are tested on.
        out: For ``table4.md``, ``raw.csv``, ``teacher.csv`` and all runs; what is done is not repeated.
        tried: Constant actions among which the best one is sought.
        executor: See `map_runs`.
        resources: See `map_runs`.
        command: How it was called, for the page.

    Returns:
        The page.

    Raises:
        ConfigError: The grid is of more than one task or agent, lacks what a row is to be without, or `out` is of other
            settings.
        FusionEnvError: Data, weights or settings cannot be used.
    """
    check_grid(grid)
    sought = cache(partial(best_action, grid, tried, out))  # by the first row that plays it: the search takes time
    cells = variant_cells(grid, None, out)
    task = cells[0][1].job.config.env
    teacher = teacher_method(task.teacher, task.teacher_weights, task.device)
    whole = grid.base.to_dict() | {"teacher": teacher.origin, "data": task.data}
    settings = {
        "agent": grid.policies[0],
        "task": {name: value for name, value in whole.items() if name not in MACHINE_ONLY},
        "sets": {one.name: [one.source.fingerprint(), len(one.indices)] for one in sets},
        "metrics": METRICS,
        "tried": tried,
    }
    ledger = Ledger(out / "ledger.jsonl", settings)
    if executor != "inline":  # all at once; the pieces below find them done
        list(map_runs([cell.job for _, cell in variant_cells(grid, sought(), out)], executor, resources))

    def run_and_test(place: int) -> list[Row]:
        name, cell = cells[place]
        if VARIANTS[name].fixed:
            _, cell = variant_cells(grid, sought(), out)[place]
        return _run_and_test(name, cell, sets)

    # Seeds first: what is there when it is stopped early compares all rows.
    places = sorted(range(len(cells)), key=lambda place: cells[place][1].seed)
    seeking = next(place for place in places if VARIANTS[cells[place][0]].fixed)
    pieces = [
        Piece(
            f"{cells[place][0]}, seed {cells[place][1].seed}, start {cells[place][1].stage0_seed}",
            partial(run_and_test, place),
            1 + tried if place == seeking else 1,
            share=partial(logged, cells[place][1].job.run_dir / "rounds.csv", cells[place][1].job.config.env.rounds),
        )
        for place in places
    ]
    pieces.append(Piece(TEACHER, partial(_tested, {"variant": TEACHER}, teacher, sets), 0.1))
    rows = work_through(pieces, ledger)
    runs = [row for row in rows if row["variant"] != TEACHER]
    write_csv(out / "raw.csv", runs)
    write_csv(out / "teacher.csv", [row for row in rows if row["variant"] == TEACHER])
    starts = sorted({(cell.seed, cell.stage0_seed) for _, cell in cells})
    told = {
        "Task": f"{grid.start} with {grid.settings}, agent `{grid.policies[0]}`",
        "Teacher": teacher.origin,
        "Seeds": ", ".join(f"{seed} from start {start}" for seed, start in starts),
        "Tested on": ", ".join(f"{one.name} ({len(one.indices)} pairs)" for one in sets),
        "Fixed best action": f"{_action_text(sought(), task.logit_scale)} (of {tried}, a run each with a tuning seed)",
    }
    write_text(out / "table4.md", ablation_page(rows, told, command, ledger.seconds))
    return out / "table4.md"


def _action_text(action: Sequence[float], logit_scale: float) -> str:
    weights, degradation = decode_action(action, logit_scale=logit_scale)
    values = {"guidance": weights.guidance, **vars(degradation)}
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def _run_and_test(name: str, cell: Cell, sets: Sequence[PairSet]) -> list[Row]:
    """Do a run of a row, or read it, and score the student that it delivers."""
    ((_, summary),) = map_runs([cell.job])
    student = student_method(str(RunDirectory(cell.job.run_dir).student), cell.job.config.env.device)
    run = {
        "variant": name,
        "seed": cell.seed,
        "stage0_seed": cell.stage0_seed,
        "rounds": summary["learning_rounds"],
        "best_round": float(np.mean(summary["best_rounds"])),
        "diverged_runs": summary["diverged_runs"],
        "e": _relative(summary["report"]["final"], summary["report"]["teacher"]),
        "last_e": _relative(summary["report"]["last"], summary["report"]["teacher"]),
    }
    return _tested(run, student, sets)


def _relative(student: dict[str, float], teacher: dict[str, float]) -> float:
    """Return VIF and IQA against the teacher's, on average: of one meaning in all rows, whatever their reward."""
    return float(np.mean([student[name] / teacher[name] for name in ("vif", "iqa")]) - 1)


def _tested(labels: Row, method: Method, sets: Sequence[PairSet]) -> list[Row]:
    """Score a method on test sets: a row for each, with the means over its pairs."""
    rows = []
    for one in sets:
        values = [score(method.fuse(one.name, pair), pair) for pair in map(one.pair, one.indices)]
        means = {name: float(np.mean([value[name] for value in values])) for name in METRICS}
        rows.append({**labels, "set": one.name, **means})
    return rows
