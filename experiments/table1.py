r"""Compare methods as Table 1 of the paper does, on any data sets and methods.

python experiments/table1.py --data procedural my/pairs --out DIR
python experiments/table1.py --data m3fd-fusion=M3FD msrs-test=MSRS \
    --teachers ldfusion=WEIGHTS sage=WEIGHTS --students student=FILE \
    --folders other=FUSED --out DIR

Data are published data sets by name (NAME=FOLDER where they lie elsewhere
than in a folder of their name), folders of pairs, and procedural scenes
(procedural, procedural-fog, procedural-night). FUSED holds one folder of
fused images for each of them. The folder --out gets the page, every value,
the fused images and a picture. The same command goes on where it was stopped.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.command_line import add_device, as_started, exit_on_error, make_parser, results_folder
from experiments.paper.chosen_methods import add_method_options, chosen_methods
from experiments.paper.pair_sets import PairSet, open_set
from experiments.paper.stoppable import make_and_show
from experiments.paper.table1 import compare
from fusion_env.errors import ConfigError

__all__ = ["command", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    called = f"{as_started('python experiments/table1.py')} {shlex.join(arguments)}"
    return make_and_show(lambda: compare(chosen_methods(args), _sets(args), args.out, called), called)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    text = "what to compare on (default: procedural scenes)"
    parser.add_argument("--data", nargs="+", default=["procedural"], metavar="NAME[=DIR]", help=text)
    text = "at most so many pairs of each, evenly spaced (default: all; procedural 10)"
    parser.add_argument("--most", type=int, metavar="N", help=text)
    add_method_options(parser)
    parser.add_argument("--out", type=results_folder, required=True, metavar="DIR", help="folder for the results")
    add_device(parser)
    return parser


def _sets(args: argparse.Namespace) -> list[PairSet]:
    given = [text.partition("=") for text in args.data]
    sets = [open_set(name, Path(root) if root else None, most=args.most) for name, _, root in given]
    names = [one.name for one in sets]
    if len({*names}) < len(names):
        raise ConfigError(f"--data must name every set once. Got {', '.join(names)}")
    return sets


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
