"""Fuse pairs with several students: a montage, and a table of metrics.

python experiments/compare.py IR VIS --out DIR [--students NAME=WEIGHTS ...]

IR and VIS are two images or two folders. The folder --out gets the fused
images of each student and what evaluate.py writes of them: grid.png (the
montage), summary.md, summary.csv and images.csv, with classical fusion as
a yardstick.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from experiments import evaluate
from experiments.command_line import as_started, exit_on_error, make_parser, progress_bar
from experiments.evaluation.folders import refuse_as_output
from fusion_env.data.images import as_data_error
from fusion_env.errors import ConfigError, DataError
from student.fuse import PairingError, fuse_files, fuse_folders, load
from student.fuse.files import refuse_inputs
from student.sixteen_bit import Scale, add_scale_options

__all__ = ["command", "main"]

_EMBEDDED = "embedded"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    students = dict(args.students)
    if len(students) < len(args.students):
        raise ConfigError(f"--students must name each once. Got {', '.join(name for name, _ in args.students)}")
    _check_places(args.ir, args.vis, args.out)
    fused = {name: args.out / "fused" / name for name in students}
    for name, weights in students.items():
        _fuse(name, None if weights == _EMBEDDED else weights, fused[name], args)
    metrics = ["--metrics", *args.metrics] if args.metrics else []
    scale = ["--stretch"] * args.stretch + ["--bit-depth", str(args.bit_depth)] * (args.bit_depth is not None)
    methods = [f"{name}={folder}" for name, folder in fused.items()]
    made_by = (
        f"{as_started('python experiments/compare.py')} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    )
    with _folders(args.ir, args.vis) as (ir, vis):
        sides = ["--ir", str(ir), "--vi", str(vis), "--fused", *methods]
        return evaluate.main([*sides, "--baselines", "--out", str(args.out), *scale, *metrics], made_by)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("ir", type=Path, metavar="IR", help="infrared image or folder")
    parser.add_argument("vis", type=Path, metavar="VIS", help="visible image or folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    text = "students to compare: file, folder or id on the hub, by name (default: the embedded one)"
    default = [("student", _EMBEDDED)]
    parser.add_argument("--students", type=_named, nargs="+", default=default, metavar="NAME=WEIGHTS", help=text)
    parser.add_argument("--device", default="auto", help="'cpu', 'cuda', 'cuda:N' or 'auto' (default: auto)")
    add_scale_options(parser)
    text = "metrics of the table (default: those of evaluate.py)"
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help=text)
    return parser


def _named(text: str) -> tuple[str, str]:
    name, _, weights = text.partition("=")
    if name in ("", "..") or name != Path(name).name or not weights:
        raise argparse.ArgumentTypeError(f"must be NAME=WEIGHTS, NAME a folder's. Got {text!r}")
    return name, weights


def _check_places(ir: Path, vis: Path, out: Path) -> None:
    for path in (ir, vis):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
    if ir.samefile(vis):
        raise DataError(f"{ir} and {vis} are the same; name the infrared and the visible one")
    if ir.is_dir() != vis.is_dir():
        raise DataError(f"{ir} and {vis} must be two images or two folders")
    refuse_as_output(out, [ir, vis])
    try:
        refuse_inputs([out / "grid.png"], [ir, vis])
    except PairingError as error:
        raise DataError(str(error)) from error


@contextmanager
def _folders(ir: Path, vis: Path) -> Iterator[tuple[Path, Path]]:
    """Give two folders: those given, or new ones that show the two files given, which errors then name."""
    if ir.is_dir():
        yield ir, vis
        return
    with tempfile.TemporaryDirectory() as scratch:
        shown = {Path(scratch, side, f"{vis.stem}{file.suffix}"): file for side, file in (("ir", ir), ("vi", vis))}
        for link, file in shown.items():
            link.parent.mkdir()
            link.symlink_to(file.resolve())
        try:
            yield Path(scratch, "ir"), Path(scratch, "vi")
        except DataError as error:
            text = str(error)
            for link, file in shown.items():
                text = text.replace(str(link), str(file))
            raise DataError(text) from error


def _fuse(name: str, weights: str | None, out: Path, args: argparse.Namespace) -> None:
    try:
        fuser = load(weights, device=args.device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print(f"{name}: {fuser.describe()}")
    scale = Scale(args.bit_depth, args.stretch)
    with as_data_error():
        try:
            if not args.ir.is_dir():
                out_path = out / f"{args.vis.stem}.png"
                fuse_files(fuser, ir_path=args.ir, vis_path=args.vis, out_path=out_path, scale=scale)
                return
            outcome = fuse_folders(
                fuser,
                ir_dir=args.ir,
                vis_dir=args.vis,
                out_dir=out,
                scale=scale,
                progress=partial(progress_bar, title=name),
            )
        except PairingError as error:
            raise DataError(str(error)) from error
    if outcome.failures:
        raise DataError("cannot compare these images:\n  " + "\n  ".join(outcome.failures))


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
