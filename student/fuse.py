"""Run a trained student on images: `fuse_images` in Python, or from the shell.

python -m student.fuse --weights student.safetensors --ir DIR --vi DIR --out DIR
"""

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn
from tqdm import tqdm

from student.files import write_atomic
from student.weights import WeightsError, load_student

__all__ = ["PairingError", "fuse_files", "fuse_images", "main", "pair_files"]

_LUMA = (0.299, 0.587, 0.114)
_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

_logger = logging.getLogger(__name__)


class PairingError(ValueError):
    """Two folders do not hold the same pairs."""


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
    """List the pairs of two folders by file name without extension, in sorted order.

    Args:
        ir_dir: Folder of infrared images.
        vis_dir: Folder of visible images.

    Raises:
        PairingError: If a folder is missing or empty, a name occurs twice, or images have no partner; the message lists
            all of those.
    """
    ir_files, vis_files = _files_by_stem(ir_dir), _files_by_stem(vis_dir)
    alone = [str(ir_files[stem]) for stem in sorted(ir_files.keys() - vis_files.keys())]
    alone += [str(vis_files[stem]) for stem in sorted(vis_files.keys() - ir_files.keys())]
    if alone:
        raise PairingError(f"{len(alone)} images have no partner of the same name: {', '.join(alone)}")
    return [(ir_files[stem], vis_files[stem]) for stem in sorted(ir_files)]


def fuse_files(student: nn.Module, *, ir_path: Path, vis_path: Path, out_path: Path, device: str = "cpu") -> None:
    """Fuse one pair of 8-bit image files into a PNG, which is written completely or not at all.

    Args:
        student: Network for `fuse_images`, on ``device``.
        ir_path: Infrared image; a colour file counts by its luma.
        vis_path: Visible image.
        out_path: The PNG to write, 8-bit RGB, rounded.
        device: Where to run.

    Raises:
        ValueError: If an image is unreadable or not 8-bit, or the sizes differ or are below 16 pixels.
    """
    ir, vis = _read(ir_path, "L").to(device), _read(vis_path, "RGB").to(device)
    if ir.shape[-2:] != vis.shape[-2:]:
        raise ValueError(
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
    parser = argparse.ArgumentParser(prog="python -m student.fuse", description="Fuse folders of registered pairs.")
    parser.add_argument("--weights", type=Path, required=True, help="student weights (.safetensors or .pt)")
    parser.add_argument("--ir", type=Path, required=True, help="folder of infrared images")
    parser.add_argument("--vi", type=Path, required=True, help="folder of visible images with the same names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the fused PNG files; made if need be")
    parser.add_argument("--device", default="cpu", help='where to run, such as "cuda" (default: cpu)')
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    try:
        student = load_student(options.weights).to(options.device)
        pairs = pair_files(ir_dir=options.ir, vis_dir=options.vi)
    except (PairingError, WeightsError, RuntimeError) as error:
        _logger.error("%s", error)
        return 2
    failures = []
    for ir_path, vis_path in tqdm(pairs, unit="pair", disable=not sys.stderr.isatty()):
        try:
            out_path = options.out / f"{ir_path.stem}.png"
            fuse_files(student, ir_path=ir_path, vis_path=vis_path, out_path=out_path, device=options.device)
        except (OSError, ValueError) as error:
            failures.append(str(error))
    for failure in failures:
        _logger.error("%s", failure)
    _logger.info("%d of %d pairs fused into %s", len(pairs) - len(failures), len(pairs), options.out)
    return 1 if failures else 0


def _files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise PairingError(f"{folder} is not a folder.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _SUFFIXES:
            if path.stem in files:
                raise PairingError(f"{files[path.stem]} and {path} have the same name; remove one.")
            files[path.stem] = path
    if not files:
        raise PairingError(f"{folder} holds no images ({', '.join(sorted(_SUFFIXES))}).")
    return files


def _read(path: Path, mode: str) -> Tensor:
    """Read an 8-bit image as [1, C, H, W] in 0..1; ``mode`` is Pillow's "L" or "RGB"."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path} has {image.mode} pixels; convert it to 8 bits with one range for all images.")
            pixels = np.array(ImageOps.exif_transpose(image).convert(mode), dtype=np.float32)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return torch.from_numpy(pixels / 255).reshape(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    sys.exit(main())
