r"""Detect objects on fused images: Table 2 of the paper, with its seeds' noise.

python experiments/detection.py --out runs/detection
python experiments/detection.py --data m3fd-detection --data-root M3FD \
    --teachers ldfusion=WEIGHTS sage=WEIGHTS --students student=FILE \
    --epochs 100 --image-size 640 --batch 16 --seeds 0-4 --device cuda \
    --out runs/m3fd

A YOLOv8 detector is trained from nothing on the fused images of every method,
with each seed, all of them alike. Needs Ultralytics:
pip install -e '.[detect]'. The same command goes on where it was
stopped.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarking.grid import parse_seeds
from experiments.command_line import add_device, as_started, exit_on_error, make_parser, results_folder
from experiments.paper.chosen_methods import add_method_options, chosen_methods
from experiments.paper.detection import DATA, RECIPES, detection, labelled_pairs
from experiments.paper.detection_images import LabelledSource
from experiments.paper.detection_training import Recipe
from experiments.paper.stoppable import make_and_show
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError

__all__ = ["command", "main"]

_SCENES = "procedural"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args(arguments)
    for name in ("scenes", "epochs", "image_size", "batch"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1. Got {getattr(args, name)}")
    called = f"{as_started('python experiments/detection.py')} {shlex.join(arguments)}"
    recipe, seeds = Recipe(args.epochs, args.image_size, args.batch), parse_seeds(args.seeds)
    machine = {"device": args.device, "threads": args.threads}
    return make_and_show(
        lambda: detection(chosen_methods(args), _pairs(args), recipe, seeds, args.out, **machine, command=called),
        called,
    )


def _pairs(args: argparse.Namespace) -> LabelledSource:
    if args.data == _SCENES:
        return SplitScenes(args.scenes, *args.size)
    return labelled_pairs(args.data, args.data_root)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    usual = RECIPES["demo"]
    what = parser.add_argument_group("which images")
    text = f"{_SCENES}, or a published data set with boxes, such as {DATA} (default: {_SCENES})"
    what.add_argument("--data", default=_SCENES, metavar="NAME", help=text)
    text = "where the published data set lies (default: in a folder of its name)"
    what.add_argument("--data-root", type=Path, metavar="DIR", help=text)
    text = "procedural scenes, a fifth of them to test on (default: 200)"
    what.add_argument("--scenes", type=int, default=200, help=text)
    text = "of the procedural scenes in pixels (default: 192 256)"
    what.add_argument("--size", type=int, nargs=2, default=(192, 256), metavar=("HEIGHT", "WIDTH"), help=text)
    add_method_options(parser.add_argument_group("which methods"))
    how = parser.add_argument_group("how detectors are trained")
    how.add_argument("--epochs", type=int, default=usual.epochs, help="passes over the images (default: %(default)s)")
    text = "longer side to which images are brought, a multiple of 32 (default: %(default)s)"
    how.add_argument("--image-size", type=int, default=usual.image_size, help=text)
    how.add_argument("--batch", type=int, default=usual.batch, help="images in a mini-batch (default: %(default)s)")
    how.add_argument("--seeds", nargs="+", default=["0-2"], help="such as 0-4 (default: 0-2)")
    parser.add_argument("--out", type=results_folder, required=True, metavar="DIR", help="folder for the results")
    add_device(parser)
    return parser


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
