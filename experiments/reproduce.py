r"""Make a table or figure of the paper, from the check of the data to the page.

python experiments/reproduce.py --table 1 --out runs/paper
python experiments/reproduce.py --figure 4 --out runs/paper \
    --data-root DATA
python experiments/reproduce.py --table 1 --preset paper \
    --data-root DATA --out runs/paper

DATA holds one folder for each published data set, called m3fd, msrs, tno, ...
Without it, procedural scenes are used. The preset demo takes what is at hand,
the preset paper asks for the paper's data sets and weights. The same command
goes on where it was stopped.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import torch

from experiments.command_line import add_device, as_started, exit_on_error, make_parser, results_folder
from experiments.paper.order import PRESETS, Order
from experiments.paper.stoppable import make_and_show
from fusion_env.errors import ConfigError

__all__ = ["MODULES", "command", "main"]

MODULES = {
    ("table", 1): "table1",
    ("table", 2): "detection",
    ("table", 3): "table3",
    ("table", 4): "ablation",
    ("figure", 1): "figure1",
    ("figure", 3): "figure3",
    ("figure", 4): "figure4",
    ("figure", 5): "figure5",
}
"""The module in `experiments.paper` whose ``make`` makes it."""

_UNUSED = {
    ("table", 1): ("seeds",),
    ("table", 2): ("most",),
    ("table", 3): ("seeds", "student", "data_root", "most"),
    ("table", 4): ("student",),
    ("figure", 1): ("seeds",),
    ("figure", 3): ("seeds",),
    ("figure", 4): ("seeds",),
    ("figure", 5): ("seeds", "student"),
}
"""Options that do not concern it: given, they are an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    what = ("table", args.table) if args.table else ("figure", args.figure)
    for name in _UNUSED.get(what, ()):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} does not concern {what[0]} {what[1]}: leave it out")
    if args.threads:
        torch.set_num_threads(args.threads)
    module = import_module(f"experiments.paper.{MODULES[what]}")
    order = Order(
        out=args.out,
        preset=args.preset,
        data_root=args.data_root,
        most=args.most,
        student=args.student,
        device=args.device,
        threads=args.threads,
        seeds=None if args.seeds is None else tuple(args.seeds),
        command=f"{as_started('python experiments/reproduce.py')} {shlex.join(arguments)}",
    )
    return make_and_show(partial(module.make, order), order.command)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    for kind in ("table", "figure"):
        numbers = [number for other, number in MODULES if other == kind]
        what.add_argument(f"--{kind}", type=int, choices=numbers, help=f"number of the {kind}")
    parser.add_argument("--preset", choices=PRESETS, default="demo", help="how much is asked for (default: demo)")
    text = "folder that holds one folder for each published data set (default: procedural scenes only)"
    parser.add_argument("--data-root", type=Path, metavar="DATA", help=text)
    text = "at most so many real pairs of each set, evenly spaced (default: demo 10, paper all)"
    parser.add_argument("--most", type=int, metavar="N", help=text)
    parser.add_argument(
        "--out", type=results_folder, required=True, metavar="DIR", help="folder of all tables and figures"
    )
    text = "weights of the student, where one is shown or scored (default: the embedded one)"
    parser.add_argument("--student", metavar="WEIGHTS", help=text)
    parser.add_argument("--seeds", type=int, nargs="+", help="of what is trained (default: the preset's)")
    add_device(parser)
    return parser


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
