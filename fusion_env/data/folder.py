"""A data set on disk: ``ir/NAME`` and ``vi/NAME`` belong together."""

import difflib
import hashlib
import operator
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
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
from student.listing import INFRARED, VISIBLE
from student.sixteen_bit import Scale

__all__ = ["PairedFolder"]

# Names of a million files; what is larger is something else.
_MAX_LIST_BYTES = 16 * 1024 * 1024
_SHOWN_CHARACTERS = 100
_AS_STATED = Scale()


class PairedFolder(PairSource):
    """Serve the image pairs of a folder.

    Layout::

        ROOT/ir/00001.png     or infrared/ (case does not matter, so Ir/ and Vis/ are fine)
        ROOT/vi/00001.jpg     or vis/ or visible/
        ROOT/train.txt        optional, together with val.txt
        ROOT/val.txt

    Files pair up by stem, case-sensitively; extensions may differ, the content decides the format (see
    `student.images`). If no stem is on both sides, marks of the side are left out first: ``ir/IR_01.png`` and
    ``vi/VIS_01.png``, or ``01-infrared`` and ``01-visible``, are the pair ``01``. Hidden files, subfolders, other
    folders of ROOT (such as ``labels``) and side files (text, tables, ``Thumbs.db``) are ignored; any other file must
    be an image (see `student.listing`). Symbolic links are followed. Pairs are ordered by name.

    Building the object reads headers only and reports every problem at once. Corrupt pixel data shows when a pair is
    loaded; `verify` looks for it in all files.

    ``train.txt`` and ``val.txt`` hold one name per line, with or without mark and extension; blank lines and lines
    that start with ``#`` are ignored. Pairs in neither list are not used by `fusion_env.data.make_splits`.

    Args:
        root: Folder as above.
        small_images: What happens to pairs with a side shorter than `minimum_size`: ``"error"``, or ``"reflect"`` to
            enlarge them to it by reflection at the bottom and the right, where no coordinate changes.
        minimum_size: Shortest side in pixels that the user of the images needs, at least 1.
        scale: How the values of 16-bit files become levels.

    Attributes:
        root: The folder.
        name: The folder's own name.
        names: Names of the pairs, sorted.
        sizes: Height and width of each pair as `load` returns it, that is after EXIF rotation and enlargement.
        split_names: ``{"train": (...), "val": (...)}`` from the lists, or None without them.

    Raises:
        ConfigError: If `small_images` or `minimum_size` is out of range.
        DataError: If the folder is missing or empty, files have no partner or share a stem, headers cannot be read,
            sizes differ within a pair, pairs are too small, or a list is wrong: one error for all of it.
    """

    def __init__(
        self, root: str | Path, small_images: str = "error", minimum_size: int = 1, scale: Scale = _AS_STATED
    ) -> None:
        if small_images not in ("error", "reflect"):
            raise ConfigError(f"small_images must be 'error' or 'reflect'. Got {small_images!r}")
        if minimum_size < 1:
            raise ConfigError(f"minimum_size must be at least 1 pixel. Got {minimum_size}")
        self.root = Path(os.path.expanduser(root))
        ir_folder, vis_folder = _find_sides(self.root)
        self.name = self.root.resolve().name
        self._scale = scale

        problems: list[str] = []
        ir_files, vis_files = listing.match_sides(ir=_by_stem(ir_folder, problems), vis=_by_stem(vis_folder, problems))
        problems += _unpaired(ir_files, vis_folder, vis_files) + _unpaired(vis_files, ir_folder, ir_files)
        paired = {stem: (ir_files[stem], vis_files[stem]) for stem in sorted(ir_files.keys() & vis_files.keys())}
        smallest = minimum_size if small_images == "error" else 1
        stored = {stem: _common_size(*files, smallest, problems) for stem, files in paired.items()}
        by_stem = {file.stem: name for name, files in paired.items() for file in files}
        self.split_names = _read_split_lists(self.root, by_stem | {name: name for name in paired}, problems)
        if not ir_files and not vis_files:
            problems.append(f"{ir_folder.name}/ and {vis_folder.name}/ hold no images")
        if problems:
            raise joint_error(f"cannot use the image pairs in {self.root}", problems)

        self.names = tuple(paired)
        self._files = tuple(paired.values())
        self._stored_sizes = tuple(stored.values())
        enlarged = ((max(height, minimum_size), max(width, minimum_size)) for height, width in self._stored_sizes)
        self.sizes = tuple(enlarged) if small_images == "reflect" else self._stored_sizes

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
                + f"{_text(self._stored_sizes[index])} when the folder was opened"
            )
        return pixels


def _find_sides(root: Path) -> tuple[Path, Path]:
    """Return the infrared and the visible folder, or explain why there are none."""
    if not os.path.isdir(root):
        reason = "is a file, not a folder" if os.path.exists(root) else _missing_folder(root)
        raise DataError(printable(f"{root}: {reason}"))
    inside = _subfolders(root)
    found = []
    for side, names in (("infrared", INFRARED), ("visible", VISIBLE)):
        folders = [folder for folder in inside if folder.name.casefold() in names]
        if len(folders) > 1:
            listed = ", ".join(folder.name for folder in folders)
            raise DataError(printable(f"{root}: several folders for {side} images ({listed}); keep one"))
        if not folders:
            near = [folder for folder in (root.parent, *inside) if _has_sides(folder)]
            hint = f" Did you mean {near[0]}?" if near else ""
            wanted = ", ".join(name + "/" for name in names)
            raise DataError(printable(f"{root}: no folder for {side} images (one of {wanted}).{hint}"))
        found.append(folders[0])
    return found[0], found[1]


def _missing_folder(root: Path) -> str:
    parent = next(folder for folder in root.absolute().parents if os.path.isdir(folder))
    if parent != root.absolute().parent:
        return f"no such folder ({parent} exists, nothing below it on this path does)"
    near = difflib.get_close_matches(root.name, [folder.name for folder in _neighbours(parent)], n=1)
    return "no such folder." + (f" Did you mean {parent / near[0]}?" if near else "")


def _has_sides(folder: Path) -> bool:
    names = {entry.name.casefold() for entry in _neighbours(folder)}
    return bool(names & set(INFRARED) and names & set(VISIBLE))


def _neighbours(folder: Path) -> list[Path]:
    """List the subfolders of a folder for a hint: one that cannot be listed has none."""
    try:
        return _subfolders(folder)
    except DataError:
        return []


def _subfolders(folder: Path) -> list[Path]:
    with as_data_error():
        return listing.list_folder(folder)[0]


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
        problems.append(f"{ir_file.stem}: infrared is {_text(sizes[0])}, visible {_text(sizes[1])}")
    elif min(sizes[0]) < smallest:
        problems.append(
            f"{ir_file.stem}: {_text(sizes[0])} is smaller than a crop of {smallest} "
            "(small_images='reflect' enlarges it)"
        )
    return sizes[0]


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} (height x width)"


def _read_split_lists(root: Path, known: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, ...]] | None:
    """Read ``train.txt`` and ``val.txt``; what is wrong with them is added to `problems`."""
    lists = {side: root / f"{side}.txt" for side in ("train", "val")}
    present = [side for side, file in lists.items() if os.path.lexists(file)]
    if not present:
        return None
    if len(present) == 1:
        problems.append(f"{present[0]}.txt stands alone; train.txt and val.txt belong together")
    names = {side: _read_list(lists[side], known, problems) for side in present}
    for name in sorted(set(names.get("train", ())) & set(names.get("val", ()))):
        problems.append(f"{name} is listed in train.txt and in val.txt")
    return names


def _read_list(file: Path, known: Mapping[str, str], problems: list[str]) -> tuple[str, ...]:
    """Read a list of names and return the pairs meant; `known` maps everything that may stand there to a pair."""
    if not os.path.isfile(file):
        problems.append(f"{file.name} is not a regular file")
        return ()
    try:
        if file.stat().st_size > _MAX_LIST_BYTES:
            problems.append(f"{file.name} is larger than {_MAX_LIST_BYTES >> 20} MiB, which is no list of names")
            return ()
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file.name} cannot be read as UTF-8 text, {error}")
        return ()
    entries = [line for line in lines if line and not line.startswith("#")]
    found = [known.get(entry) or known.get(entry.rpartition(".")[0]) for entry in entries]
    unknown = [entry for entry, name in zip(entries, found, strict=True) if not name]
    problems += [f"{file.name} lists {_shortened(entry)!r}, which is no pair" for entry in unknown]
    names = [name for name in found if name]
    problems += [f"{file.name} lists {name!r} {n} times" for name, n in Counter(names).items() if n > 1]
    if not entries:
        problems.append(f"{file.name} lists nothing")
    return tuple(names)


def _shortened(entry: str) -> str:
    return entry if len(entry) <= _SHOWN_CHARACTERS else f"{entry[:_SHOWN_CHARACTERS]}..."


def _enlarged(planes: Pixels, size: tuple[int, int]) -> Tensor:
    """Reflect ``[C, H, W]`` beyond its bottom and right border up to `size`, as often as that takes."""
    missing = [(0, target - side) for target, side in zip(size, planes.shape[1:], strict=True)]
    padded = np.pad(planes, [(0, 0), *missing], mode="reflect") if planes.shape[1:] != size else planes
    return torch.from_numpy(np.ascontiguousarray(padded))
