"""``fusion-student fuse``: what the command line asks of files, folders and videos, and the old door to it."""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from student.console import accept_any_console, printable
from student.fuse.alignment import Alignment, align
from student.fuse.files import Aligner, Interrupted, Outcome, PairingError, fuse_files, fuse_folders, refuse_inputs
from student.fuse.fuser import Fuser, load
from student.fuse.video import SIDES, VIDEOS, WRITTEN, fuse_video
from student.fuse.writing import FORMATS, make_folder
from student.large_pages import ask_for_large_pages
from student.origin import EXPOSURES
from student.sixteen_bit import Scale, add_scale_options
from student.weights import WeightsError

__all__ = ["add_options", "main", "run"]

_logger = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fusion-student fuse``."""
    parser.add_argument("ir", type=Path, metavar="IR", help="infrared image, folder or video")
    text = "visible image, folder or video; files of folders belong together by name"
    parser.add_argument("vis", type=Path, nargs="?", metavar="VIS", help=text)
    text = "the fused image (PNG, TIFF, JPEG), folder (of PNG) or video; never an input"
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=text)
    text = "IR is one video that shows both, infrared in this half; no VIS then"
    parser.add_argument("--side-by-side", choices=SIDES, help=text)
    text = "file, folder or OWNER/NAME on the Hugging Face hub (default: the embedded student)"
    parser.add_argument("--weights", metavar="WEIGHTS", help=text)
    text = "brightness and contrast: those of the sources, or what the network makes (default: as the weights say)"
    parser.add_argument("--exposure", choices=EXPOSURES, help=text)
    where = parser.add_argument_group("how to compute")
    text = "'cpu', 'cuda', 'cuda:N' or 'auto' (default: auto, CUDA if it is there)"
    where.add_argument("--device", default="auto", help=text)
    where.add_argument("--half", action="store_true", help="float16, on CUDA only")
    where.add_argument("--compile", action="store_true", help="compile the network, on CUDA only; for many images")
    text = "fuse in tiles of N pixels a side: the same picture in little memory, in twice the time"
    where.add_argument("--tile", type=int, metavar="N", help=text)
    what = parser.add_argument_group("what the files are")
    text = "images of unequal view: estimate how the infrared lies on the visible one, refuse a bad estimate; of a "
    what.add_argument("--align", action="store_true", help=f"{text}video its first frame decides")
    add_scale_options(what)


def run(options: argparse.Namespace) -> int:
    """Fuse what the options name.

    Returns:
        0 if everything was fused, 1 if some of it failed (each is named), 2 if nothing could be done.
    """
    if options.tile is None:  # who asks for tiles wants little memory, and large pages take a third more
        ask_for_large_pages()
    try:
        kind = _kind(options)
        fuser = load(
            options.weights,
            device=options.device,
            half=options.half,
            tile=options.tile,
            compiled=options.compile,
            exposure=options.exposure,
        )
        _logger.info("%s", printable(fuser.describe()))
        start = time.perf_counter()
        outcome = _RUNS[kind](fuser, options)
        taken = time.perf_counter() - start
    except Interrupted as stop:
        _tell(stop.outcome, len(stop.left), "pairs", options.out)
        if stop.left:
            _logger.info(
                "stopped at %s: the pairs before it, by name, are fused, but for those above", printable(stop.left[0])
            )
        raise
    except (ValueError, WeightsError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        _logger.error("%s", printable(str(error)))
        return 2
    unit = "frames" if kind == "video" else "pairs"
    _tell(outcome, 0, unit, options.out)
    scale = Scale(options.bit_depth, options.stretch)
    if scale.describe():
        _logger.info("%s", scale.describe())
    if outcome.fused:
        rates = outcome.fused / taken, outcome.pixels / taken / 1e6
        _logger.info(
            "%.2f %s a second, %.2f megapixels a second, reading and writing included", rates[0], unit, rates[1]
        )
    return 1 if outcome.failures else 0


def _tell(outcome: Outcome, left: int, unit: str, out: Path) -> None:
    """Say what failed and how much is done; so many were left."""
    for failure in outcome.failures:
        _logger.error("%s", printable(failure))
    total = outcome.fused + len(outcome.failures) + left
    _logger.info("%d of %d %s fused into %s", outcome.fused, total, unit, printable(str(out)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m student.fuse``, the old door: folders only, with options in place of positions.

    Args:
        arguments: Without the program's name; None takes the shell's.

    Returns:
        0 if every pair was fused, 1 if some failed (each is named), 2 if nothing could be done.
    """
    accept_any_console()
    parser = argparse.ArgumentParser(
        prog="python -m student.fuse",
        description="Fuse folders of registered pairs. fusion-student fuse does that, too, and files and videos.",
    )
    parser.add_argument("--weights", type=Path, required=True, help="student weights (.safetensors or .pt)")
    parser.add_argument("--ir", type=Path, required=True, help="folder of infrared images")
    parser.add_argument("--vi", type=Path, required=True, help="folder of visible images with the same names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the fused PNG files; made if need be")
    parser.add_argument("--device", default="cpu", help='where to run, such as "cuda" (default: cpu)')
    add_scale_options(parser)
    given = vars(parser.parse_args(arguments))
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    absent = {"side_by_side": None, "half": False, "compile": False, "tile": None, "align": False, "exposure": None}
    return run(argparse.Namespace(**absent, kind="folder", vis=given.pop("vi"), **given))


def _kind(options: argparse.Namespace) -> str:
    """Tell what the arguments are, and refuse a mixture."""
    if hasattr(options, "kind"):
        return options.kind
    if options.side_by_side:
        if options.vis is not None:
            raise PairingError("--side-by-side takes one video that shows both; leave out VIS.")
        options.vis = options.ir
    if options.vis is None:
        raise PairingError("VIS is missing: name the visible image, folder or video, or use --side-by-side.")
    for path in (options.ir, options.vis):
        if not path.exists():
            raise PairingError(f"{path}: no such file or folder.")
    if options.ir.samefile(options.vis) and not options.side_by_side:
        raise PairingError(f"{options.ir} and {options.vis} are the same; name the infrared and the visible one.")
    kinds = [
        "folder" if path.is_dir() else "video" if _is_video(path) else "image" for path in (options.ir, options.vis)
    ]
    if kinds[0] != kinds[1]:
        raise PairingError(f"{options.ir} ({kinds[0]}) and {options.vis} ({kinds[1]}): name two of one kind.")
    if options.side_by_side and kinds[0] != "video":
        raise PairingError(f"--side-by-side is for videos ({', '.join(sorted(VIDEOS))}). Got {options.ir}.")
    if kinds[0] == "image" and (options.out.is_dir() or options.out.suffix.lower() not in FORMATS):
        raise PairingError(f"OUT must name a file that ends in one of {', '.join(FORMATS)}. Got {options.out}.")
    if kinds[0] == "video" and options.out.suffix.lower() not in WRITTEN:
        raise PairingError(f"OUT must name a video that ends in one of {', '.join(WRITTEN)}. Got {options.out}.")
    return kinds[0]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


def _fuse_image(fuser: Fuser, options: argparse.Namespace) -> Outcome:
    files = {"ir_path": options.ir, "vis_path": options.vis, "out_path": options.out}
    refuse_inputs([options.out], [*_weights(options), options.ir, options.vis])
    make_folder(options.out.parent)
    scale = Scale(options.bit_depth, options.stretch)
    height, width = fuse_files(fuser, **files, scale=scale, aligner=_aligner(options, once=False))
    return Outcome(1, height * width, [])


def _fuse_folder(fuser: Fuser, options: argparse.Namespace) -> Outcome:
    current = ""

    def progress(names: list[str]) -> Iterator[str]:
        nonlocal current
        for name in _bar(names, "pair", len(names)):
            current = name
            yield name

    return fuse_folders(
        fuser,
        ir_dir=options.ir,
        vis_dir=options.vis,
        out_dir=options.out,
        scale=Scale(options.bit_depth, options.stretch),
        aligner=_aligner(options, once=False, place=lambda: f"{current} "),
        other_inputs=_weights(options),
        progress=progress,
    )


def _fuse_video(fuser: Fuser, options: argparse.Namespace) -> Outcome:
    refuse_inputs([options.out], [*_weights(options), options.ir, options.vis])
    make_folder(options.out.parent)
    frames, pixels = fuse_video(
        fuser,
        ir_path=options.ir,
        vis_path=options.vis,
        out_path=options.out,
        side_by_side=options.side_by_side,
        scale=Scale(options.bit_depth, options.stretch),
        aligner=_aligner(options, once=True),
        progress=lambda pairs, count: _bar(pairs, "frame", count),
    )
    return Outcome(frames, pixels, [])


def _weights(options: argparse.Namespace) -> list[Path]:
    return [] if options.weights is None else [Path(options.weights)]


_RUNS = {"image": _fuse_image, "folder": _fuse_folder, "video": _fuse_video}


def _bar(items: Iterable[Any], unit: str, count: int) -> Iterable[Any]:
    return tqdm(items, unit=unit, total=count or None, disable=not sys.stderr.isatty())


def _aligner(options: argparse.Namespace, once: bool, place: Callable[[], str] = lambda: "") -> Aligner | None:
    """Return what aligns and tells how good it is, and where; with ``once`` the first picture decides for all."""
    found: list[Alignment] = []

    def aligner(*, ir: NDArray[Any], vis: NDArray[Any]) -> NDArray[np.generic]:
        if not (once and found):
            found.append(align(ir=ir, vis=vis))
            _logger.info("%saligned: %s", printable(place()), found[-1].describe())
        return found[-1].apply(ir=ir, vis=vis)

    return aligner if options.align else None
