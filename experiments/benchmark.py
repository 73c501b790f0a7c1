r"""Compare policies at equal compute, with uncertainty.

python experiments/benchmark.py --task few --agents reinforce ppo guidance-only \
    --out runs/first
python experiments/benchmark.py --protocol across --runs 20 --seeds 0-9 \
    --executor pool --workers 4 --out runs/second
python experiments/benchmark.py --agents ppo sac \
    --agent-settings ppo.n_steps=5 sac.gamma=0.8 --out runs/third
python experiments/benchmark.py --agents my_policy.py:MyPolicy constant \
    --data my/pairs --teachers sage=WEIGHTS --out runs/fourth

The same command goes on where it was stopped: finished runs are read,
unfinished ones continue.
"""

import argparse
import shlex
import sys
from pathlib import Path

from experiments.benchmarking.executors import EXECUTORS, Resources
from experiments.benchmarking.grid import LONG_CONTROL, TUNING_SEEDS_FROM, Grid, parse_seeds, settings_by_policy
from experiments.benchmarking.run import RESULTS_FILE, benchmark
from experiments.command_line import (
    add_fields,
    add_preset,
    add_settings,
    as_started,
    exit_on_error,
    given_settings,
    make_parser,
    named_values,
)
from experiments.running import policies
from experiments.running.config import RunConfig
from experiments.running.interruption import Interrupted, interrupt_at_once
from fusion_env.config import MACHINE_ONLY, DistillConfig

__all__ = ["benchmark", "command", "main"]

_OWN = ("data", "teacher", "teacher_weights", "stage0_seed", "data_seed")


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
    again = f"{as_started('python experiments/benchmark.py')} {shlex.join(arguments)}"
    cells = grid.cells(args.out)
    most = max(cell.job.config.total_rounds for cell in cells)
    print(f"{len(cells)} runs of at most {most} rounds, executor {args.executor}")
    try:
        with interrupt_at_once():
            benchmark(grid, args.out, executor=args.executor, resources=resources, command=again, show=True)
    except Interrupted:
        print(f"stopped; the same command goes on where it was: {again}")
        return 130
    page = (args.out / RESULTS_FILE).read_text(encoding="utf-8")
    print(f"\n{page}\nWritten to {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    usual = f"Default: 1 run online; across 20 runs, {policies.EVAL_RUNS} of the frozen agent."
    what = parser.add_argument_group("what to run", usual)
    add_preset(what, "bench")
    what.add_argument("--data", nargs="+", default=[], dest="data_sets", metavar="DIR", help="default: the preset's")
    what.add_argument("--teachers", nargs="+", default=[], metavar="NAME[=WEIGHTS]", help="default: the preset's")
    add_fields(what, DistillConfig, ("rounds",))
    add_fields(what, RunConfig, ("protocol", "runs", "eval_runs"))
    what.add_argument("--seeds", nargs="+", default=["0-9"], help="such as 0-9; from 1000 on they are for tuning")
    text = "take turns over the seeds (default: {}; for tuning from 1000 on)"
    what.add_argument("--stage0-seeds", nargs="+", metavar="SEED", help=text.format("0-1"))
    text = f"draws of scenes and splits, which {text}"
    what.add_argument("--data-seeds", nargs="+", metavar="SEED", help=text.format("0-4"))
    known = ", ".join((*policies.names(), LONG_CONTROL))
    agents = parser.add_argument_group("which agents")
    agents.add_argument(
        "--agents",
        "--algos",
        nargs="+",
        metavar="NAME",
        help=f"{known}; module:Factory or file.py:Class (default: all but planner)",
    )
    agents.add_argument(
        "--agent-settings",
        nargs="+",
        default=[],
        metavar="ALGO.NAME=X",
        help="settings of the agents, such as ppo.n_steps=5 or file.py:Class.level=0.5",
    )
    where = parser.add_argument_group("where results go")
    where.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the benchmark")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--executor", choices=sorted(EXECUTORS), default="inline", help="where the runs take place")
    machine.add_argument("--workers", type=int, default=1, help="processes of the executor pool")
    machine.add_argument("--gpus", type=int, nargs="+", default=[], help="CUDA devices that the pool's workers share")
    machine.add_argument("--gpu-share", type=float, default=0.0, help="share of a GPU for a run of the executor ray")
    machine.add_argument("--address", help="Ray cluster, such as auto; default: one on this machine")
    add_fields(machine, DistillConfig, MACHINE_ONLY)
    add_settings(parser, "bench", without=_OWN, added=(*MACHINE_ONLY, "rounds"))
    return parser


def _usual(across: bool) -> list[str]:
    """Return all policies but the planner, which computes far more, and what the protocol has no place for."""
    left_out = {"planner"} if across else {"planner", "random-search"}
    return [*(name for name in policies.names() if name not in left_out), *([LONG_CONTROL] if across else [])]


def _grid(args: argparse.Namespace) -> Grid:
    fields = given_settings(args, RunConfig)  # preset and task among them
    agent_settings = settings_by_policy(named_values(fields.pop("agent_settings")))
    across = fields.get("protocol") == "across"
    seeds = parse_seeds(args.seeds)
    first = TUNING_SEEDS_FROM if seeds[0] >= TUNING_SEEDS_FROM else 0
    usual = {"protocol": "across", "runs": 20, "eval_runs": policies.EVAL_RUNS} if across else {"protocol": "online"}
    return Grid(
        policies=tuple(args.agents or _usual(across)),
        teachers=tuple(args.teachers),
        data=tuple(args.data_sets),
        seeds=seeds,
        stage0_seeds=parse_seeds(args.stage0_seeds) if args.stage0_seeds else (first, first + 1),
        data_seeds=parse_seeds(args.data_seeds) if args.data_seeds else tuple(range(first, first + 5)),
        # One thread unless told otherwise: runs side by side do not disturb each other, and numbers can be repeated.
        settings={"threads": 1} | given_settings(args),
        agent_settings=agent_settings,
        **usual | fields,
    )


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
