"""Run the grid of a benchmark, and write what came of it."""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.benchmarking.executors import Resources, map_runs
from experiments.benchmarking.figures import draw_learning_curves, draw_schedules
from experiments.benchmarking.grid import LONG_CONTROL, Grid
from experiments.benchmarking.page import results_page
from experiments.benchmarking.series import rounds_of
from experiments.benchmarking.submission import ACTIONS_FILE, action_rows
from experiments.benchmarking.table import RAW_FILE, Row, raw_row
from experiments.output import write_csv, write_text

__all__ = ["RESULTS_FILE", "benchmark"]

RESULTS_FILE = "results.md"


def benchmark(
    grid: Grid,
    out: Path,
    *,
    executor: str = "inline",
    resources: Resources | None = None,
    command: str = "experiments.benchmark.benchmark(...)",
    show: bool = False,
) -> list[Row]:
    """Run a grid and write ``raw.csv``, ``actions.csv``, ``results.md``, ``learning_curves.png`` and ``schedules.png``.

    Args:
        grid: What to compare.
        out: Directory of the benchmark; runs in it that are finished are not repeated.
        executor: See `map_runs`.
        resources: See `map_runs`.
        command: How this was called, for the report.
        show: Show a progress bar over all runs.

    Returns:
        The rows of ``raw.csv``, in the order of the grid.

    Raises:
        FusionEnvError: A setting is out of range, or a run failed.
    """
    cells = grid.cells(out)
    finished: dict[Path, dict[str, Any]] = {}
    with tqdm(total=len(cells), desc="runs", disable=not show) as bar:
        for job, summary in map_runs([cell.job for cell in cells], executor, resources):
            finished[job.run_dir] = summary
            bar.update()
            bar.set_postfix_str(f"{job.run_dir.parent.name}/{job.run_dir.name}")
    summaries = [finished[cell.job.run_dir] for cell in cells]
    told = {"settings": grid.told_settings, "command": command}
    rows = [raw_row(cell, summary) | told for cell, summary in zip(cells, summaries, strict=True)]
    write_csv(out / RAW_FILE, rows)
    write_csv(out / ACTIONS_FILE, [row for cell in cells for row in action_rows(cell, rounds_of(cell))])
    curves = [cell for cell in cells if cell.policy != LONG_CONTROL]  # its rounds are others
    draw_learning_curves(curves or cells, out / "learning_curves.png")
    draw_schedules(curves or cells, out / "schedules.png")
    write_text(out / RESULTS_FILE, results_page(grid, cells, rows, summaries, command))
    return rows
