"""Data sets by their names, as their makers publish them."""

import logging
import re
from pathlib import Path

from fusion_env.data.folder import read_split_lists
from fusion_env.data.images import as_data_error
from fusion_env.data.labels import Box, read_boxes, read_mask
from fusion_env.data.layouts import DataSet, Part, data_sets, read_lines
from fusion_env.data.pair_files import PairFiles, Reading, match_folders
from fusion_env.data.pairs import joint_error
from fusion_env.data.places import PLAIN, Place, find_places
from fusion_env.errors import DataError
from student import listing
from student.images import Pixels
from student.sixteen_bit import Scale

__all__ = ["NamedSet", "find_labels", "named", "pair_name"]

_logger = logging.getLogger(__name__)
_AS_STATED = Scale()

Split = dict[str, tuple[str, ...]]


class NamedSet(PairFiles):
    """Serve the pairs of a published data set, with its splits and labels.

    Pairs are called by their files; where several parts are served, the name of the part stands before, such as
    ``test_00537D``. A folder with plain ``ir/`` and ``vi/`` is read as `fusion_env.data.PairedFolder` reads it.

    A part that is missing is an error. A number of pairs that is not the published one is logged as a warning, and the
    name says it.

    Args:
        data_set: What is published.
        root: Where it lies.
        reading: How files become pairs.

    Attributes:
        data_set: What is published.
        label_files: The file of labels of each pair, or None.

    Raises:
        DataError: If the folder cannot be used: one error for all of it.
    """

    def __init__(self, data_set: DataSet, root: str | Path, reading: Reading) -> None:
        root = Path(root).expanduser()
        places, absent = find_places(data_set, root)
        rest = [f"{data_set.name}-{place.part.name}" for place in places]
        hint = "".join(f" (data={name!r} is what is there)" for name in rest if name in data_sets)
        problems = [f"no {name} part: looked for {wanted}{hint}" for name, wanted in absent.items()]
        files: dict[str, tuple[Path, Path]] = {}
        labels: dict[str, Path] = {}
        stems: dict[str, dict[str, str]] = {}
        for place in places:
            paired = _kept(data_set, _paired(place, problems))
            found = find_labels(data_set, place.label_folder)
            names = {stem: pair_name(data_set, place.part, stem) for stem in paired}
            files |= {names[stem]: pair for stem, pair in paired.items()}
            labels |= {name: found[stem] for stem, name in names.items() if stem in found}
            stems[place.part.name] = names
        super().__init__(root, files, reading, problems)
        self.data_set = data_set
        self.label_files = tuple(labels.get(name) for name in self.names)
        self.split_names = _own_lists(places, files, problems) or _published_splits(places, stems)
        if problems:
            problems.append(f"`python -m fusion_env.data verify {data_set.name} {root}` lists everything")
            raise joint_error(f"cannot use {data_set.name} in {root}", problems)
        self.name = self._announce(places)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labelled classes; empty where nothing is labelled."""
        return self.data_set.labels.classes if self.data_set.labels else ()

    def boxes(self, index: int) -> tuple[Box, ...]:
        """Read the boxes of a pair, in pixels of the image as published.

        Raises:
            DataError: If there are none, or the file cannot be used.
        """
        path, classes = self._label(index, "boxes")
        return read_boxes(path, self._stored_sizes[index], classes)

    def mask(self, index: int) -> Pixels:
        """Read the class of each pixel of a pair, uint8 ``[H, W]`` as published.

        Raises:
            DataError: If there is none, or the file cannot be used.
        """
        path, classes = self._label(index, "mask")
        mask = read_mask(path, classes)
        if mask.shape != self._stored_sizes[index]:
            raise DataError(f"{path}: {mask.shape} pixels, but the images have {self._stored_sizes[index]}")
        return mask

    def _label(self, index: int, kind: str) -> tuple[Path, tuple[str, ...]]:
        labels, path = self.data_set.labels, self.label_files[index]
        if labels is None or labels.kind != kind:
            raise DataError(f"{self.data_set.name} has no labels of the kind {kind!r}")
        if path is None:
            raise DataError(f"{self.root}: no file of labels for {self.names[index]!r} in {self.data_set.name}")
        return path, labels.classes

    def _announce(self, places: list[Place]) -> str:
        """Say what is not as published, and return the name of what is there."""
        name, wanted = self.data_set.name, self.data_set.pairs
        if any(place.part is PLAIN for place in places):
            _logger.warning(
                "%s in %s is laid out as plain pairs: the published parts are not told apart, and the splits are those "
                "of any folder",
                name,
                self.root,
            )
            return name
        if wanted in (None, len(self)):
            return name
        _logger.warning(
            "%s in %s has %d pairs, %d are published: numbers made with it are not numbers of %s. "
            "`python -m fusion_env.data verify` lists what is missing",
            *(name, self.root, len(self), wanted, name),
        )
        return f"{name} ({len(self)} pairs, {wanted} are published)"


def named(
    name: str, root: str | Path, small_images: str = "error", minimum_size: int = 1, scale: Scale = _AS_STATED
) -> NamedSet:
    """Open a published data set, or a part of one.

    Args:
        name: One of ``data_sets.names()``, such as ``"m3fd"``, ``"msrs-test"`` or ``"msrs-night"``.
        root: Where it lies, in the layout of its makers, or as ``ir/`` and ``vi/``.
        small_images: As for `fusion_env.data.PairedFolder`.
        minimum_size: As there.
        scale: As there.

    Raises:
        UnknownNameError: If there is no such data set.
        ConfigError: If `small_images` or `minimum_size` is out of range.
        DataError: If the folder cannot be used.
    """
    return NamedSet(data_sets.get(name), root, Reading(small_images, minimum_size, scale))


def pair_name(data_set: DataSet, part: Part, stem: str) -> str:
    """Return what a pair is called: its stem, after its part where there are several."""
    return f"{part.name}_{stem}" if len(data_set.parts) > 1 and part is not PLAIN else stem


def find_labels(data_set: DataSet, folder: Path | None) -> dict[str, Path]:
    """List the files of labels in a folder, by stem; of VOC and YOLO, VOC, which names its classes."""
    if folder is None or data_set.labels is None:
        return {}
    with as_data_error():
        if data_set.labels.kind == "mask":
            return {stem: files[0] for stem, files in listing.by_stem(folder).items()}
        files = listing.list_folder(folder)[1]
    return {file.stem: file for kind in (".txt", ".xml") for file in files if file.suffix.lower() == kind}


def _paired(place: Place, problems: list[str]) -> dict[str, tuple[Path, Path]]:
    if not place.files:
        return match_folders(place.ir_folder, place.vis_folder, problems)
    single = [name for name, pair in place.files.items() if sum(map(bool, pair)) == 1]
    problems += [f"one of the two images of {name} is missing" for name in single]
    return {name: (ir, vis) for name, (ir, vis) in place.files.items() if ir and vis}


def _kept(data_set: DataSet, paired: dict[str, tuple[Path, Path]]) -> dict[str, tuple[Path, Path]]:
    if not data_set.keep:
        return paired
    return {stem: pair for stem, pair in paired.items() if re.fullmatch(data_set.keep, stem)}


def _own_lists(places: list[Place], files: dict[str, tuple[Path, Path]], problems: list[str]) -> Split | None:
    roots = [place.plain_root for place in places if place.plain_root]
    return read_split_lists(roots[0], files, problems) if roots else None


def _published_splits(places: list[Place], stems: dict[str, dict[str, str]]) -> Split | None:
    """Return the splits that the parts stand for; None where they are not of two."""
    splits: dict[str, list[str]] = {}
    for place in places:
        part = place.part
        listed = set(read_lines(part.listed)) if part.listed else None
        for stem, name in stems[part.name].items():
            split = part.split if listed is None or stem in listed else part.rest
            # A listed part may hold names that are not published: these are of no split.
            if split and (not part.names or stem in part.names):
                splits.setdefault(split, []).append(name)
    return {split: tuple(names) for split, names in splits.items()} if {"train", "val"} <= splits.keys() else None
