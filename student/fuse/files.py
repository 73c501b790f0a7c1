"""Fuse image files: one pair, or two folders whose files belong together by name."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from student.console import printable
from student.errors import ImageError
from student.fuse.fuser import Fuser
from student.fuse.writing import make_folder, write_image
from student.images import read_deep
from student.listing import by_stem, match_sides
from student.sixteen_bit import Scale

__all__ = ["Interrupted", "Outcome", "PairingError", "fuse_files", "fuse_folders", "pair_files", "refuse_inputs"]

Aligner = Callable[..., NDArray[Any]]
"""``aligner(ir=ir, vis=vis)`` returns the infrared picture as it lies on the visible one."""

_AS_STATED = Scale()

_logger = logging.getLogger(__name__)


class PairingError(ValueError):
    """Two folders do not hold the same pairs, or the results would replace them."""


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
    student: nn.Module | Fuser,
    *,
    ir_path: Path,
    vis_path: Path,
    out_path: Path,
    device: str = "cpu",
    scale: Scale = _AS_STATED,
    aligner: Aligner | None = None,
) -> tuple[int, int]:
    """Fuse one pair of image files into one, which is written completely or not at all.

    Args:
        student: A `Fuser`, or a network for it.
        ir_path: Infrared image; a colour file counts by its luma.
        vis_path: Visible image.
        out_path: The PNG, TIFF or JPEG file to write: grey or colour, 8 or 16 bits as the visible image (of 16 bits all
            are used), rounded.
        device: Where to run a network; a `Fuser` has its own.
        scale: How the values of 16-bit files become levels.
        aligner: Brings the infrared picture onto the visible one, see `student.fuse.align`; without it both must be
            registered and have one size.

    Returns:
        Height and width.

    Raises:
        ValueError: If an image cannot be used (an `ImageError`, see `student.images`), the sizes differ or are below 16
            pixels, or the result would replace one of the two images.
    """
    refuse_inputs([out_path], [ir_path, vis_path])
    fuser = student if isinstance(student, Fuser) else Fuser(student, device=device)
    ir, vis = (read_deep(path, scale) for path in (ir_path, vis_path))
    if aligner is None and ir.shape[:2] != vis.shape[:2]:
        raise ImageError(
            f"{ir_path} is {ir.shape[:2]} and {vis_path} {vis.shape[:2]} (height, width); pairs must be registered: "
            "crop and resize one to the other, or let --align (student.fuse.align) estimate how they lie"
        )
    for path, picture in ((ir_path, ir), (vis_path, vis)):
        if picture.min() == picture.max():
            _logger.warning("%s has the same value everywhere: the other picture is the result", printable(str(path)))
    try:
        fused = fuser(ir=ir if aligner is None else aligner(ir=ir, vis=vis), vis=vis)
    except ValueError as error:  # which names the arguments
        raise ImageError(f"{ir_path}: {error} (with {vis_path})") from error
    write_image(out_path, fused)
    return vis.shape[0], vis.shape[1]


@dataclass(frozen=True)
class Outcome:
    """What `fuse_folders` has done.

    Attributes:
        fused: Number of pairs written.
        pixels: Of all of them.
        failures: What is wrong with each of the others, with its files' names.
    """

    fused: int
    pixels: int
    failures: list[str]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of folders.

    Attributes:
        outcome: What was done until then.
        left: Names of the other pairs.
    """

    def __init__(self, outcome: Outcome, left: list[str]) -> None:
        super().__init__()
        self.outcome, self.left = outcome, left


def fuse_folders(
    fuser: Fuser,
    *,
    ir_dir: Path,
    vis_dir: Path,
    out_dir: Path,
    scale: Scale = _AS_STATED,
    aligner: Aligner | None = None,
    other_inputs: Sequence[Path] = (),
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Outcome:
    """Fuse the pairs of two folders into PNG files; a pair that cannot be used is named, and the rest is fused.

    Args:
        fuser: What fuses.
        ir_dir: Folder of infrared images.
        vis_dir: Folder of visible images; `student.listing` says which files belong together.
        out_dir: Folder for the results, named by pair; made if need be.
        scale: See `fuse_files`.
        aligner: See `fuse_files`.
        other_inputs: Further files that must not be replaced, such as the weights.
        progress: Progress display over the names of the pairs.

    Raises:
        PairingError: The folders do not hold the same pairs, or an input would be replaced; nothing is written then.
        ImageError: The folder for the results cannot be written into.
        Interrupted: Ctrl-C; what has been written is whole.
    """
    pairs = _named_pairs(ir_dir, vis_dir)
    outputs = {name: out_dir / f"{name}.png" for name in pairs}
    _refuse_folders(out_dir, [ir_dir, vis_dir])
    refuse_inputs(outputs.values(), [*other_inputs, *chain(*pairs.values())])
    make_folder(out_dir)
    failures: list[str] = []
    pixels: list[int] = []
    try:
        for name in progress([*pairs]):
            ir_path, vis_path = pairs[name]
            try:
                height, width = fuse_files(
                    fuser, ir_path=ir_path, vis_path=vis_path, out_path=outputs[name], scale=scale, aligner=aligner
                )
                pixels.append(height * width)
            except ImageError as error:
                failures.append(str(error))
            except (OSError, ValueError, RuntimeError, MemoryError) as error:
                failures.append(f"{ir_path}: {error}")
    except KeyboardInterrupt as error:
        left = [*pairs][len(pixels) + len(failures) :]
        raise Interrupted(Outcome(len(pixels), sum(pixels), failures), left) from error
    return Outcome(len(pixels), sum(pixels), failures)


def _named_pairs(ir_dir: Path, vis_dir: Path) -> dict[str, tuple[Path, Path]]:
    """Return the pairs of `pair_files` by name."""
    ir_files, vis_files = match_sides(ir=_files_by_stem(ir_dir), vis=_files_by_stem(vis_dir))
    alone = [str(ir_files[name]) for name in sorted(ir_files.keys() - vis_files.keys())]
    alone += [str(vis_files[name]) for name in sorted(vis_files.keys() - ir_files.keys())]
    if alone:
        count = "1 image has" if len(alone) == 1 else f"{len(alone)} images have"
        raise PairingError(f"{count} no partner of the same name: {', '.join(alone)}")
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


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to replace an input, whatever links or spelling lead to it."""
    known = {_identity(path): path for path in inputs if path.exists()}
    for path in outputs:
        if path.exists() and _identity(path) in known:
            raise PairingError(f"{path} is an input ({known[_identity(path)]}); write somewhere else.")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
