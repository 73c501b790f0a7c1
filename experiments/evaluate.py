r"""Compare fusion methods by their fused images: a paper's table from folders.

python experiments/evaluate.py --ir DIR --vi DIR --out DIR \
    --fused NAME=DIR [NAME=DIR ...]

The folder --out gets images.csv (every value), summary.csv and summary.md
(mean, 95 % bootstrap interval over the images, number of images, best and
second best) and grid.png (some images side by side).
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.command_line import as_started, exit_on_error, make_parser, progress_bar
from experiments.evaluation.baselines import SMALLEST
from experiments.evaluation.chosen_scores import DEFAULT_METRICS, PRESETS, add_score_options, chosen_scores
from experiments.evaluation.folders import ComparedImages, find_images, refuse_as_output
from experiments.evaluation.scoring import Score, resolve_scores, score_images
from experiments.evaluation.side_by_side import draw_grid
from experiments.evaluation.summary import LEVEL, RESAMPLES, summarise, summary_table
from experiments.output import write_csv, write_text
from fusion_env.data import Progress, no_progress
from fusion_env.errors import ConfigError, unknown_name
from fusion_env.task import resolve_device
from student.console import counted, printable
from student.sixteen_bit import Scale, add_scale_options

__all__ = ["DEFAULT_METRICS", "PRESETS", "Evaluation", "command", "evaluate", "main"]

_SHOWN_IMAGES = 3
_AS_STATED = Scale()

_logger = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """Result of `evaluate`."""

    images: pd.DataFrame
    """Columns ``method``, ``image`` and one for each metric."""
    summary: pd.DataFrame
    """See `experiments.evaluation.summary.summarise`."""


def evaluate(
    fused: Mapping[str, str | Path],
    metrics: Sequence[str | Score] = DEFAULT_METRICS,
    *,
    ir: str | Path,
    vis: str | Path,
    allow_missing: bool = False,
    scale: Scale = _AS_STATED,
    resamples: int = RESAMPLES,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Evaluation:
    """Score the fused images of several methods against their sources.

    Images pair up by name as `student.listing` says; formats and extensions may differ. Everything is checked before
    anything is scored.

    Args:
        fused: Folders of fused images (grey or colour) by name of the method.
        metrics: Names known to `fusion_env.metrics`, or metrics.
        ir: Folder of infrared images.
        vis: Folder of visible images.
        allow_missing: Compare only the pairs whose files are all there and usable, and log a warning that names the
            others; without it they are an error.
        scale: How the values of 16-bit files become levels.
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the bootstrap, at least 0.
        device: Where to compute.
        progress: Progress display over the pairs.

    Returns:
        A value for every image, and the summary of each method and metric.

    Raises:
        DataError: If images are missing, unreadable, of different sizes within a pair, or too small for a metric; the
            message lists all of them.
        UnknownNameError: If a metric is not known.
        ConfigError: If there is no method, metrics repeat, or a number is out of range.
    """
    _check_bootstrap(resamples, seed)
    scores = resolve_scores(metrics)
    images = find_images(
        fused,
        ir=ir,
        vis=vis,
        minimum_size=_minimum_size(scores),
        allow_missing=allow_missing,
        scale=scale,
        progress=progress,
    )
    if images.left_out:
        _logger.warning("%s", "\n".join(_left_out_lines(images)))
    per_image = score_images(images, scores, device, progress)
    return Evaluation(per_image, summarise(per_image, scores, resamples, seed))


def _minimum_size(scores: Sequence[Score]) -> int:
    return max(score.minimum_size for score in scores)


def _check_bootstrap(resamples: int, seed: int) -> None:
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1. Got {resamples}")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0. Got {seed}")


def main(arguments: Sequence[str] | None = None, made_by: str | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; None takes the shell's.
        made_by: The command that the page names; None for this one.
    """
    args = _parser().parse_args(arguments)
    _check_bootstrap(args.resamples, args.seed)
    methods = _methods(args.fused)
    refuse_as_output(args.out, [args.ir, args.vi, *methods.values()])
    device = str(resolve_device(args.device))
    scores = chosen_scores(args, device)
    images = find_images(
        methods,
        ir=args.ir,
        vis=args.vi,
        minimum_size=max(_minimum_size(scores), SMALLEST if args.baselines else 1),
        allow_missing=args.allow_missing,
        scale=Scale(args.bit_depth, args.stretch),
        progress=progress_bar,
    )
    shown = _shown_images(args.grid, images)
    _make_folder(args.out)
    per_image = score_images(images, scores, device, progress_bar, baselines=args.baselines)
    summary = summarise(per_image, scores, args.resamples, args.seed)
    table = "\n".join([summary_table(summary, scores), "", *_notes(images, per_image, args)])
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    again = made_by or f"{as_started('python experiments/evaluate.py')} {given}"
    report = f"# Fusion metrics\n\n`{again}`\n\n{table}\n\n{_legend(scores)}\n\n![side by side](grid.png)\n"
    for name, frame in (("images", per_image), ("summary", summary.assign(left_out=len(images.left_out)))):
        write_csv(args.out / f"{name}.csv", frame.to_dict("records"), digits=9)
    draw_grid(images, shown, args.out / "grid.png")
    write_text(args.out / "summary.md", report)
    print(f"{table}\n\nWritten to {args.out}: images.csv, summary.csv, summary.md, grid.png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    what = parser.add_argument_group("what to compare")
    what.add_argument("--ir", type=Path, required=True, metavar="DIR", help="folder of infrared images")
    what.add_argument("--vi", type=Path, required=True, metavar="DIR", help="folder of visible images")
    text = "a method and the folder of its fused images, named like their sources whatever the extension"
    what.add_argument("--fused", type=_method, required=True, nargs="+", action="extend", metavar="NAME=DIR", help=text)
    text = "compare only the pairs that are complete and usable for all methods, instead of refusing"
    what.add_argument("--allow-missing", action="store_true", help=text)
    text = "also classical fusion, and every method's images sharpened and stretched: what a number costs"
    what.add_argument("--baselines", action="store_true", help=text)
    add_scale_options(what)
    add_score_options(parser)
    where = parser.add_argument_group("where results go")
    where.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    text = f"images to show side by side (default: the first {_SHOWN_IMAGES})"
    where.add_argument("--grid", nargs="+", metavar="IMAGE", help=text)
    bootstrap = parser.add_argument_group("intervals")
    text = "bootstrap samples (default: %(default)s)"
    bootstrap.add_argument("--resamples", type=int, default=RESAMPLES, help=text)
    bootstrap.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default="cpu", help="'cpu', 'cuda', 'cuda:N' or 'auto' (default: cpu)")
    return parser


def _method(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"must be NAME=DIR. Got {text!r}")
    return name, Path(folder)


def _methods(given: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    methods = dict(given)
    if len(methods) < len(given):
        raise ConfigError(f"--fused must name every method once. Got {', '.join(name for name, _ in given)}")
    return methods


def _shown_images(wanted: Sequence[str] | None, images: ComparedImages) -> list[str]:
    for name in wanted or ():
        if name in images.left_out:
            raise ConfigError(f"--grid names {name!r}, which is left out: {'; '.join(images.left_out[name])}")
        if name not in images.files:
            raise unknown_name("image of --grid", name, images.files)
    return list(wanted or list(images.files)[:_SHOWN_IMAGES])


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out must be a folder that can be written. Got {path}: {error.strerror}") from error


def _notes(images: ComparedImages, per_image: pd.DataFrame, args: argparse.Namespace) -> list[str]:
    """Say what the table shows, and everything that it does not."""
    interval = (
        f"its {LEVEL:.0%} percentile bootstrap interval over the images ({args.resamples} samples, seed {args.seed})"
    )
    several = f"Mean over {len(images.files)} images and {interval}"
    notes = [f"{several if len(images.files) > 1 else 'Values of 1 image'}. **Best**, *second best*."]
    if images.scale != _AS_STATED:
        notes += ["", f"{images.scale.describe()}."]
    if images.left_out:
        notes += ["", *_left_out_lines(images)]
    for method, names in images.unused.items():
        notes += ["", printable(f"{method}: not scored, as they belong to no pair: {', '.join(names)}")]
    values = per_image.drop(columns="image").set_index("method")
    for (method, name), count in (~np.isfinite(values)).groupby(level=0, sort=False).sum().stack().items():
        if count:
            notes += [
                "",
                printable(f"{method}: {name} is NaN or infinite for {counted(count, 'image')}; see images.csv"),
            ]
    return notes


def _legend(scores: Sequence[Score]) -> str:
    return "\n".join(
        f"- {score.name} ({'higher' if score.higher_is_better else 'lower'} is better): {score.summary}"
        for score in scores
    )


def _left_out_lines(images: ComparedImages) -> list[str]:
    total = len(images.left_out) + len(images.files)
    title = f"LEFT OUT for all methods: {len(images.left_out)} of {total} images."
    return [title, *(f"- {printable(name)}: {'; '.join(found)}" for name, found in images.left_out.items())]


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
