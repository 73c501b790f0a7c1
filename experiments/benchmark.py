"""Compare policies at equal compute, with uncertainty.

python experiments/benchmark.py --protocol online --algos reinforce ppo linear constant random --seeds 0-4
python experiments/benchmark.py --protocol across --runs 20 --executor pool --workers 4 --seeds 0-9
python experiments/benchmark.py --algos my_policy.py:MyPolicy constant random --data my/pairs --teachers sage=WEIGHTS

The same command goes on where it was stopped: finished runs are read, unfinished ones continue.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import agents
from experiments.benchmarking.executors import EXECUTORS, Resources, map_runs
from experiments.benchmarking.figures import draw_learning_curves, draw_schedules
from experiments.benchmarking.grid import Grid, parse_seeds
from experiments.benchmarking.page import results_page
from experiments.benchmarking.table import RAW_FILE, Row, raw_row
from experiments.command_line import add_settings, exit_on_error, given_settings
from experiments.output import write_csv, write_text
from experiments.running.config import PROTOCOLS
from experiments.running.interruption import Interrupted, interrupt_at_once
from experiments.running.policies import GUIDANCE_ONLY
from fusion_env.config import PRESETS

__all__ = ["benchmark", "main"]

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
    """Run a grid and write ``raw.csv``, ``results.md``, ``learning_curves.png`` and ``schedules.png``.

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
    summaries: dict[Path, dict[str, Any]] = {}
    with tqdm(total=len(cells), desc="runs", disable=not show) as bar:
        for job, summary in map_runs([cell.job for cell in cells], executor, resources):
            summaries[job.run_dir] = summary
            bar.update()
            bar.set_postfix_str(f"{job.run_dir.parent.name}/{job.run_dir.name}")
    rows = [raw_row(cell, summaries[cell.job.run_dir]) for cell in cells]
    write_csv(out / RAW_FILE, rows)
    draw_learning_curves(cells, out / "learning_curves.png")
    draw_schedules(cells, out / "schedules.png")
    page = results_page(grid, cells, rows, [summaries[cell.job.run_dir] for cell in cells], command)
    write_text(out / RESULTS_FILE, page)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 finished, 130 interrupted; the same command goes on.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    grid = _grid(args)
    resources = Resources(args.workers, tuple(args.gpus), args.gpu_share, args.address)
    command = shlex.join(["python", "experiments/benchmark.py", *arguments])
    cells = grid.cells(args.out)
    print(f"{len(cells)} runs of at most {cells[0].job.config.total_rounds} rounds, executor {args.executor}")
    try:
        with interrupt_at_once():
            benchmark(grid, args.out, executor=args.executor, resources=resources, command=command, show=True)
    except Interrupted:
        print(f"stopped; the same command goes on where it was: {command}")
        return 130
    print(f"\n{(args.out / RESULTS_FILE).read_text()}\nWritten to {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="online", help="how policies are judged")
    known = ", ".join((*agents.names(), GUIDANCE_ONLY))
    parser.add_argument("--algos", nargs="+", metavar="NAME", help=f"{known}; module:Factory or file.py:Class")
    parser.add_argument("--teachers", nargs="+", default=[], metavar="NAME[=WEIGHTS]", help="default: the preset's")
    parser.add_argument("--data", nargs="+", default=[], dest="data_sets", metavar="DIR", help="default: the preset's")
    parser.add_argument("--seeds", nargs="+", default=["0-9"], help="such as 0-9; from 1000 on they are for tuning")
    parser.add_argument("--stage0-seeds", nargs="+", default=["0-2"], help="take turns over the seeds")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="bench", help="starting point of all settings")
    parser.add_argument("--runs", type=int, help="learning runs (default: 1 online, 20 across)")
    parser.add_argument("--eval-runs", type=int, help="runs of each frozen policy (across only; default: 5)")
    parser.add_argument("--executor", choices=sorted(EXECUTORS), default="inline", help="where the runs take place")
    parser.add_argument("--workers", type=int, default=1, help="processes of the executor pool")
    parser.add_argument("--gpus", type=int, nargs="+", default=[], help="CUDA devices that the pool's workers share")
    parser.add_argument("--gpu-share", type=float, default=0.0, help="share of a GPU for a run of the executor ray")
    parser.add_argument("--address", help="Ray cluster, such as auto; default: one on this machine")
    parser.add_argument("--out", type=Path, required=True, help="directory of the benchmark")
    add_settings(parser, without=("data", "teacher", "teacher_weights", "stage0_seed"))
    return parser


def _grid(args: argparse.Namespace) -> Grid:
    across = args.protocol == "across"
    runs, eval_runs = (20, 5) if across else (1, 0)
    known = [name for name in (*agents.names(), GUIDANCE_ONLY) if across or name != "random-search"]
    return Grid(
        protocol=args.protocol,
        policies=tuple(args.algos or known),
        teachers=tuple(args.teachers),
        data=tuple(args.data_sets),
        seeds=parse_seeds(args.seeds),
        stage0_seeds=parse_seeds(args.stage0_seeds),
        preset=args.preset,
        # One thread unless told otherwise: runs side by side do not disturb each other, and numbers can be repeated.
        settings={"threads": 1} | given_settings(args),
        runs=runs if args.runs is None else args.runs,
        eval_runs=eval_runs if args.eval_runs is None else args.eval_runs,
    )


if __name__ == "__main__":
    exit_on_error(lambda: main(sys.argv[1:]))
