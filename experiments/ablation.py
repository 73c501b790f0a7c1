r"""Take the method apart: Table 4 of the paper, every row a grid of runs.

python experiments/ablation.py --preset tiny --seeds 0-5 --out runs/ablation
python experiments/ablation.py --preset paper --data m3fd --data-root M3FD \
    --teacher-weights LDFUSION --agent reinforce-paper --out runs/paper \
    --test m3fd-fusion=M3FD tno=TNO msrs-test=MSRS --executor pool --workers 4

Rows: without self-learning loss, IQA*, VIF, student's state, gap; the full
method; the best fixed action; without the teacher's guidance. All have the
same rounds, seeds and stage-0 students. The same command goes on where it was
stopped.
"""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

from experiments.benchmarking.executors import EXECUTORS, Resources
from experiments.benchmarking.grid import Grid, parse_seeds
from experiments.command_line import (
    add_fields,
    add_preset,
    add_settings,
    as_started,
    exit_on_error,
    given_settings,
    make_parser,
    results_folder,
)
from experiments.paper.ablation import TRIED, ablation
from experiments.paper.ablation_variants import EQUATION_6
from experiments.paper.pair_sets import open_set
from experiments.paper.stoppable import make_and_show
from experiments.running import policies
from fusion_env.config import DistillConfig

__all__ = ["command", "main"]

_TASK = ("data", "data_root", "teacher", "teacher_weights", "rounds")
_MACHINE = ("device", "threads", "cache_dir")
_VARIED = ("stage0_seed", "observation", "score_metrics", "guidance", "self_learning")


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 finished, 130 interrupted; the same command goes on.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    again = f"{as_started('python experiments/ablation.py')} {shlex.join(arguments)}"
    given = [text.partition("=") for text in args.test]
    sets = [open_set(name, Path(root) if root else None, most=args.most) for name, _, root in given]
    seeds = parse_seeds(args.seeds)
    grid = Grid(
        protocol="online",
        policies=(args.agent,),
        seeds=seeds,
        stage0_seeds=seeds if args.stage0_seeds is None else parse_seeds(args.stage0_seeds),
        preset=args.preset,
        task=args.task,
        settings=EQUATION_6 | {"threads": 1} | given_settings(args),
    )
    make = partial(
        ablation,
        *(grid, sets, args.out),
        tried=args.tried,
        executor=args.executor,
        resources=Resources(args.workers),
        command=again,
    )
    return make_and_show(make, again)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    what = parser.add_argument_group("what to run")
    add_preset(what, "bench")
    known = ", ".join(name for name in policies.names() if name != "random-search")
    what.add_argument("--agent", default="reinforce", metavar="NAME", help=f"{known} (default: reinforce)")
    add_fields(what, DistillConfig, _TASK)
    what.add_argument("--seeds", nargs="+", default=["0-5"], help="fewer than six cannot tell from chance (0-5)")
    text = "take turns over the seeds (default: the seeds, each with a start of its own)"
    what.add_argument("--stage0-seeds", nargs="+", help=text)
    text = "constant actions, a run each, among which the fixed one is sought (default: %(default)s)"
    what.add_argument("--tried", type=int, default=TRIED, metavar="N", help=text)
    tested = parser.add_argument_group("what the students are tested on")
    text = "published data sets, folders of pairs, procedural scenes (default: procedural)"
    tested.add_argument("--test", nargs="+", default=["procedural"], metavar="NAME[=DIR]", help=text)
    text = "at most so many pairs of each, evenly spaced (default: all; procedural 10)"
    tested.add_argument("--most", type=int, metavar="N", help=text)
    parser.add_argument("--out", type=results_folder, required=True, metavar="DIR", help="directory of the ablation")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--executor", choices=sorted(EXECUTORS), default="inline", help="where the runs take place")
    machine.add_argument("--workers", type=int, default=1, help="processes of the executor pool")
    add_fields(machine, DistillConfig, _MACHINE)
    add_settings(parser, "bench", without=_VARIED, added=(*_TASK, *_MACHINE))
    return parser


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
