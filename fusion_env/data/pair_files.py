"""Pairs of image files: what every data set on disk has in common, whatever its folders are called."""

import hashlib
import operator
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion_env.data.images import as_data_error, read_infrared, read_size, read_visible
from fusion_env.data.pairs import ImagePair, PairSource, Progress, joint_error, no_progress
from fusion_env.errors import ConfigError, DataError
from fusion_env.fingerprint import sha256_of
from student import listing
from student.console import printable
from student.images import Pixels
from student.sixteen_bit import Scale

__all__ = ["PairFiles", "Reading", "match_folders", "size_text"]


@dataclass(frozen=True)
class Reading:
    """How files become pairs.

    Attributes:
        small_images: What happens to pairs with a side shorter than `minimum_size`: ``"error"``, or ``"reflect"`` to
            enlarge them to it by reflection at the bottom and the right, where no coordinate changes.
        minimum_size: Shortest side in pixels that the user of the images needs, at least 1.
        scale: How the values of 16-bit files become levels.

    Raises:
        ConfigError: If `small_images` or `minimum_size` is out of range.
    """

    small_images: str = "error"
    minimum_size: int = 1
    scale: Scale = field(default_factory=Scale)

    def __post_init__(self) -> None:
        if self.small_images not in ("error", "reflect"):
            raise ConfigError(f"small_images must be 'error' or 'reflect'. Got {self.small_images!r}")
        if self.minimum_size < 1:
            raise ConfigError(f"minimum_size must be at least 1 pixel. Got {self.minimum_size}")


class PairFiles(PairSource):
    """Serve pairs of files by name.

    Building the object reads headers only. Corrupt pixel data shows when a pair is loaded; `verify` looks for it in all
    files.

    Args:
        root: Folder that holds them.
        files: The infrared and the visible file of each pair, in the order of the indices.
        reading: How they become pairs.
        problems: Takes what is wrong with headers and sizes; the caller raises it with what else it finds.

    Attributes:
        root: The folder.
        name: The folder's own name.
        names: Names of the pairs.
        sizes: Height and width of each pair as `load` returns it, that is after EXIF rotation and enlargement.
    """

    def __init__(
        self, root: Path, files: Mapping[str, tuple[Path, Path]], reading: Reading, problems: list[str]
    ) -> None:
        self.root = root
        self.name = root.resolve().name
        self.names = tuple(files)
        self._files = tuple(files.values())
        self._scale = reading.scale
        smallest = reading.minimum_size if reading.small_images == "error" else 1
        self._stored_sizes = tuple(_common_size(*pair, smallest, problems) for pair in self._files)
        least = reading.minimum_size
        enlarged = ((max(height, least), max(width, least)) for height, width in self._stored_sizes)
        self.sizes = tuple(enlarged) if reading.small_images == "reflect" else self._stored_sizes

    def load(self, index: int) -> ImagePair:
        """Decode one pair.

        Args:
            index: 0 to ``len - 1``.

        Returns:
            The pair, enlarged if `small_images` asks for it.

        Raises:
            IndexError: If there is no such pair.
            DataError: If a file is corrupt, or its size has changed since the folder was opened.
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"pair index must be 0 to {len(self) - 1}. Got {index}")
        ir_file, vis_file = self._files[index]
        ir = self._decode(index, ir_file, read_infrared)[None]
        vis = self._decode(index, vis_file, read_visible).transpose(2, 0, 1)
        return ImagePair(self.names[index], _enlarged(ir, self.sizes[index]), _enlarged(vis, self.sizes[index]))

    def verify(self, progress: Progress = no_progress) -> None:
        """Decode every file.

        Args:
            progress: Progress display over the pairs.

        Raises:
            DataError: Naming all files that cannot be decoded (20 at most, then a count).
        """
        problems = []
        for index in progress(range(len(self)), f"verifying {self.name}"):
            for file, reader in zip(self._files[index], (read_infrared, read_visible), strict=True):
                try:
                    self._decode(index, file, reader)
                except DataError as error:
                    problems.append(str(error))
        if problems:
            raise joint_error(f"corrupt images in {self.root}", problems)

    def fingerprint(self) -> str:
        """Return a SHA-256 over everything that decides what `load` returns.

        That is names, sizes, split lists, the scale of 16-bit values and the content of all files. Computed once per
        object; a process reads a file again only after it was changed.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(
            repr(("paired-folder-3", self.names, self.sizes, self.split_names, self._scale)).encode()
        )
        for files in self._files:
            for file in files:
                try:
                    digest.update(sha256_of(file).encode())
                except OSError as error:
                    raise DataError(printable(f"{file}: cannot be read, {error.strerror}")) from error
        return digest.hexdigest()

    def _decode(self, index: int, file: Path, reader: Callable[[Path, Scale], Pixels]) -> Pixels:
        pixels = reader(file, self._scale)
        if pixels.shape[:2] != self._stored_sizes[index]:
            raise DataError(
                printable(f"{file}: {pixels.shape[0]} x {pixels.shape[1]} pixels, but its header said ")
                + f"{size_text(self._stored_sizes[index])} when the folder was opened"
            )
        return pixels


def match_folders(ir_folder: Path, vis_folder: Path, problems: list[str]) -> dict[str, tuple[Path, Path]]:
    """Match the files of two folders, by the rules of `student.listing`.

    Args:
        ir_folder: Infrared images.
        vis_folder: Visible images.
        problems: Takes what has no partner, shares a stem, or that nothing is there.

    Returns:
        The infrared and the visible file of each pair, by its name, sorted.
    """
    ir_files, vis_files = listing.match_sides(ir=_by_stem(ir_folder, problems), vis=_by_stem(vis_folder, problems))
    problems += _unpaired(ir_files, vis_folder, vis_files) + _unpaired(vis_files, ir_folder, ir_files)
    if not ir_files and not vis_files:
        problems.append(f"{ir_folder.name}/ and {vis_folder.name}/ hold no images")
    return {stem: (ir_files[stem], vis_files[stem]) for stem in sorted(ir_files.keys() & vis_files.keys())}


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    with as_data_error():
        listed = listing.by_stem(folder)
    for first, *others in listed.values():
        problems += [f"{folder.name}/{first.name} and {folder.name}/{file.name} have the same stem" for file in others]
    return {stem: files[0] for stem, files in listed.items()}


def _unpaired(files: dict[str, Path], other: Path, others: dict[str, Path]) -> list[str]:
    by_folded = {_folded(stem): stem for stem in others}
    problems = []
    for stem, file in files.items():
        if stem not in others:
            near = by_folded.get(_folded(stem))
            hint = ""
            if near is not None:
                case = near.casefold() == stem.casefold()
                hint = f" ({others[near].name} {'differs in case' if case else 'encodes its accents differently'})"
            problems.append(f"{file.parent.name}/{file.name} has no partner in {other.name}/{hint}")
    return problems


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _common_size(ir_file: Path, vis_file: Path, smallest: int, problems: list[str]) -> tuple[int, int]:
    """Return the size of a pair; (0, 0) if a problem was noted instead."""
    sizes = []
    for file in (ir_file, vis_file):
        try:
            sizes.append(read_size(file))
        except DataError as error:
            problems.append(str(error))
    if len(sizes) < 2:
        return 0, 0
    if sizes[0] != sizes[1]:
        problems.append(f"{ir_file.stem}: infrared is {size_text(sizes[0])}, visible {size_text(sizes[1])}")
    elif min(sizes[0]) < smallest:
        problems.append(
            f"{ir_file.stem}: {size_text(sizes[0])} is smaller than a crop of {smallest} "
            "(small_images='reflect' enlarges it)"
        )
    return sizes[0]


def size_text(size: tuple[int, int]) -> str:
    """Return a size for people."""
    return f"{size[0]} x {size[1]} (height x width)"


def _enlarged(planes: Pixels, size: tuple[int, int]) -> Tensor:
    """Reflect ``[C, H, W]`` beyond its bottom and right border up to `size`, as often as that takes."""
    missing = [(0, target - side) for target, side in zip(size, planes.shape[1:], strict=True)]
    padded = np.pad(planes, [(0, 0), *missing], mode="reflect") if planes.shape[1:] != size else planes
    return torch.from_numpy(np.ascontiguousarray(padded))
