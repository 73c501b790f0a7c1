"""Run a trained student on images: `fuse_images` in Python, or from the shell.

python -m student.fuse --weights student.safetensors --ir DIR --vi DIR --out DIR
"""

import argparse
import io
import logging
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from student.console import accept_any_console, printable
from student.errors import ImageError
from student.files import write_atomic
from student.images import Pixels, read_infrared, read_visible
from student.listing import by_stem, match_sides
from student.sixteen_bit import Scale, add_scale_options
from student.weights import WeightsError, load_student

__all__ = ["PairingError", "fuse_files", "fuse_images", "main", "pair_files"]

_LUMA = (0.299, 0.587, 0.114)
_AS_STATED = Scale()

_logger = logging.getLogger(__name__)


class PairingError(ValueError):
    """Two folders do not hold the same pairs, or the results would replace them."""


@torch.inference_mode()
def fuse_images(student: nn.Module, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Fuse registered pairs in colour: the luma is fused, the visible image's chroma put back.

    In YCbCr a colour with the same chroma and another luma Y' is the same RGB plus Y' - Y in every channel, so that
    no conversion is needed (Y = 0.299 R + 0.587 G + 0.114 B).

    Args:
        student: Network ``student(ir=ir, vis=luma) -> fused luma``, such as `student.FusionStudent`.
        ir: Infrared, [B, 1, H, W] in 0..1, on the student's device.
        vis: Visible RGB, [B, 3, H, W] in 0..1.

    Returns:
        Fused RGB, float32 [B, 3, H, W], clamped to 0..1.

    Raises:
        ValueError: If the shapes are wrong.
    """
    if vis.ndim != 4 or vis.shape[1] != 3:
        raise ValueError(f"vis must have shape [B, 3, H, W]. Got {tuple(vis.shape)}.")
    weights = vis.new_tensor(_LUMA).view(1, 3, 1, 1)
    luma = (vis * weights).sum(dim=1, keepdim=True)
    return (vis + (student(ir=ir, vis=luma).float() - luma)).clamp(0, 1)


def pair_files(*, ir_dir: Path, vis_dir: Path) -> list[tuple[Path, Path]]:
    """List the pairs of two folders, sorted by name; `student.listing` says which files are images and belong together.

    Args:
        ir_dir: Folder of infrared images.
        vis_dir: Folder of visible images.

    Raises:
        PairingError: If a folder is missing or empty, a name occurs twice, or images have no partner; the message lists
            all of those.
    """
    return [*_named_pairs(ir_dir, vis_dir).values()]


def fuse_files(
    student: nn.Module,
    *,
    ir_path: Path,
    vis_path: Path,
    out_path: Path,
    device: str = "cpu",
    scale: Scale = _AS_STATED,
) -> None:
    """Fuse one pair of image files into a PNG, which is written completely or not at all.

    Args:
        student: Network for `fuse_images`, on ``device``.
        ir_path: Infrared image; a colour file counts by its luma.
        vis_path: Visible image.
        out_path: The PNG to write, 8-bit RGB, rounded.
        device: Where to run.
        scale: How the values of 16-bit files become levels.

    Raises:
        ValueError: If an image cannot be used (an `ImageError`, see `student.images`), the sizes differ or are below 16
            pixels, or the PNG would replace one of the two images.
    """
    _refuse_inputs([out_path], [ir_path, vis_path])
    ir, vis = (
        _batch(read(path, scale)).to(device) for read, path in ((read_infrared, ir_path), (read_visible, vis_path))
    )
    if ir.shape[-2:] != vis.shape[-2:]:
        raise ImageError(
            f"{ir_path} is {tuple(ir.shape[-2:])} and {vis_path} {tuple(vis.shape[-2:])} (height, width); "
            "pairs must be registered."
        )
    fused = fuse_images(student, ir=ir, vis=vis)[0]
    levels = (fused * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    write_atomic(out_path, buffer.getvalue())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None takes the shell's.

    Returns:
        0 if every pair was fused, 1 if some failed (each is named), 2 if nothing could be done.
    """
    accept_any_console()
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    scale = Scale(options.bit_depth, options.stretch)
    try:
        student = load_student(options.weights).to(options.device)
        pairs = _named_pairs(options.ir, options.vi)
        outputs = {name: options.out / f"{name}.png" for name in pairs}
        _refuse_folders(options.out, [options.ir, options.vi])
        _refuse_inputs(outputs.values(), [options.weights, *chain(*pairs.values())])
    except (ValueError, WeightsError, RuntimeError) as error:  # torch raises the latter about devices
        _logger.error("%s", printable(str(error)))
        return 2
    failures = []
    for name, (ir_path, vis_path) in tqdm(pairs.items(), unit="pair", disable=not sys.stderr.isatty()):
        files = {"ir_path": ir_path, "vis_path": vis_path, "out_path": outputs[name]}
        try:
            fuse_files(student, **files, device=options.device, scale=scale)
        except ImageError as error:
            failures.append(str(error))
        except (OSError, ValueError, RuntimeError) as error:
            failures.append(f"{ir_path}: {error}")
    for failure in failures:
        _logger.error("%s", printable(failure))
    if scale != _AS_STATED:
        _logger.info("%s", scale.describe())
    _logger.info("%d of %d pairs fused into %s", len(pairs) - len(failures), len(pairs), options.out)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m student.fuse", description="Fuse folders of registered pairs.")
    parser.add_argument("--weights", type=Path, required=True, help="student weights (.safetensors or .pt)")
    parser.add_argument("--ir", type=Path, required=True, help="folder of infrared images")
    parser.add_argument("--vi", type=Path, required=True, help="folder of visible images with the same names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the fused PNG files; made if need be")
    parser.add_argument("--device", default="cpu", help='where to run, such as "cuda" (default: cpu)')
    add_scale_options(parser)
    return parser


def _named_pairs(ir_dir: Path, vis_dir: Path) -> dict[str, tuple[Path, Path]]:
    """Return the pairs of `pair_files` by name."""
    ir_files, vis_files = match_sides(ir=_files_by_stem(ir_dir), vis=_files_by_stem(vis_dir))
    alone = [str(ir_files[name]) for name in sorted(ir_files.keys() - vis_files.keys())]
    alone += [str(vis_files[name]) for name in sorted(vis_files.keys() - ir_files.keys())]
    if alone:
        raise PairingError(f"{len(alone)} images have no partner of the same name: {', '.join(alone)}")
    return {name: (ir_files[name], vis_files[name]) for name in sorted(ir_files)}


def _files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise PairingError(f"{folder} is not a folder.")
    listed = by_stem(folder)
    for first, *others in listed.values():
        if others:
            raise PairingError(f"{first} and {others[0]} have the same name; remove one.")
    if not listed:
        raise PairingError(f"{folder} holds no images.")
    return {stem: files[0] for stem, files in listed.items()}


def _refuse_folders(out: Path, folders: Iterable[Path]) -> None:
    for folder in folders:
        if out.exists() and out.samefile(folder):
            raise PairingError(f"{out} is the folder of inputs {folder}; write into another one.")


def _refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to replace an input, whatever links or spelling lead to it."""
    known = {_identity(path): path for path in inputs if path.exists()}
    for path in outputs:
        if path.exists() and _identity(path) in known:
            raise PairingError(f"{path} is an input ({known[_identity(path)]}); write somewhere else.")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _batch(pixels: Pixels) -> Tensor:
    """Return levels as [1, C, H, W] in 0..1."""
    unit = torch.from_numpy(pixels.astype(np.float32) / 255)
    return unit.reshape(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    sys.exit(main())
