"""What is wrong with a copy of a published data set: all of it, file by file."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion_env.data.images import as_data_error, read_infrared, read_size, read_visible
from fusion_env.data.labels import read_boxes, read_mask
from fusion_env.data.layouts import DataSet, Part, data_sets, read_lines
from fusion_env.data.named_set import find_labels
from fusion_env.data.pairs import Progress, no_progress
from fusion_env.data.places import PLAIN, Place, find_places
from fusion_env.errors import DataError
from fusion_env.fingerprint import sha256_of
from student import listing

__all__ = ["KINDS", "Fault", "Verdict", "verify"]

KINDS = {
    "missing": "published, but not there",
    "unpaired": "infrared or visible image without the other",
    "extra": "not of the published data set",
    "twice": "two files for one picture",
    "damaged": "cannot be read as an image",
    "size": "other sizes than published, or than the other image of the pair",
    "colour": "an infrared image in colours, or a visible one without: the sides may be exchanged",
    "lossy": "a JPEG or WebP copy of what is published without loss",
    "changed": "other bytes than the published file",
    "unlabelled": "an image without labels where others have them",
    "label": "labels that cannot be used, or of no image",
}
"""Kinds of faults."""

_COLOUR_LEVELS = 8
"""Mean difference between channels, in levels, above which a picture is not a grey one stored as colour."""

_LOSSY = (b"\xff\xd8\xff", b"RIFF")


@dataclass(frozen=True)
class Fault:
    """Say what is wrong with one file.

    Attributes:
        kind: One of `KINDS`.
        path: The file, or the folder where it should be.
        told: What is wrong, for people.
    """

    kind: str
    path: Path
    told: str


@dataclass(frozen=True)
class Verdict:
    """Hold what was found.

    Attributes:
        data_set: What was looked for.
        root: Where.
        pairs: Number of pairs in each part that is there.
        labels: Number of files of labels.
        faults: What is wrong, by place.
    """

    data_set: DataSet
    root: Path
    pairs: Mapping[str, int]
    labels: int
    faults: tuple[Fault, ...]


def verify(name: str, root: str | Path, *, partial: bool = False, progress: Progress = no_progress) -> Verdict:
    """Read every file of a copy of a published data set.

    Args:
        name: One of ``data_sets.names()``.
        root: Where it lies.
        partial: Whether it is known to be a part: what is missing as a pair is then no fault.
        progress: Progress display over the pairs.

    Raises:
        UnknownNameError: If there is no such data set.
        DataError: If nothing of it is there, or a folder cannot be listed.
    """
    data_set, root = data_sets.get(name), Path(root).expanduser()
    places, absent = find_places(data_set, root)
    faults = [] if partial else [Fault("missing", root, f"the part {part}: {told}") for part, told in absent.items()]
    pairs, labels = {}, 0
    content: dict[str, Path] = {}
    for place in places:
        sides = _sides(data_set, place, faults)
        names = sides[0].keys() & sides[1].keys()
        pairs[place.part.name] = len(names)
        faults += _unpaired(place, sides)
        if not partial:
            faults += _missing(data_set, place, sides)
        sizes: dict[str, tuple[int, int]] = {}
        for stem in progress(sorted(sides[0].keys() | sides[1].keys()), f"{name} {place.part.name}".strip()):
            found = [(side, side[stem]) for side in sides if stem in side]
            faults += _pictures(data_set, stem, {side is sides[0]: file for side, file in found}, sizes)
            for _, file in found:
                faults += _copies(root, file, content)
        labelled, wrong = _labels(data_set, place, sizes, {*sides[0], *sides[1]})
        labels += labelled
        faults += wrong
    faults += _strays(data_set, places, partial)
    faults += _changed(data_set, places)
    return Verdict(data_set, root, pairs, labels, tuple(faults))


def _sides(data_set: DataSet, place: Place, faults: list[Fault]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the infrared and the visible files by the name of the pair, without what is not published."""
    if place.files:
        ir = {name: pair[0] for name, pair in place.files.items() if pair[0]}
        return ir, {name: pair[1] for name, pair in place.files.items() if pair[1]}
    listed = []
    for folder in (place.ir_folder, place.vis_folder):
        with as_data_error():
            files = listing.by_stem(folder)
        files = {stem: several for stem, several in files.items() if _is_published(data_set, place.part, stem)}
        for first, *others in files.values():
            faults += [Fault("twice", file, f"has the name of {first.name}; keep one") for file in others]
        listed.append({stem: several[0] for stem, several in files.items()})
    ir, vis = listing.match_sides(ir=listed[0], vis=listed[1])
    kept: Callable[[str], object] = re.compile(data_set.keep or ".*", re.DOTALL).fullmatch
    return {stem: ir[stem] for stem in ir if kept(stem)}, {stem: vis[stem] for stem in vis if kept(stem)}


def _is_published(data_set: DataSet, part: Part, stem: str) -> bool:
    if part.names:
        return stem in part.names
    parts = data_set.parts if part is PLAIN else (part,)
    return any(re.fullmatch(known.stems, stem, re.DOTALL) for known in parts)


def _unpaired(place: Place, sides: tuple[dict[str, Path], dict[str, Path]]) -> Iterator[Fault]:
    ir, vis = sides
    for files, others, folder in ((ir, vis, place.vis_folder), (vis, ir, place.ir_folder)):
        folded = {stem.casefold(): stem for stem in others}
        for stem in sorted(files.keys() - others.keys()):
            near = folded.get(stem.casefold())
            hint = f"; {others[near].name} differs in case" if near is not None else ""
            yield Fault("unpaired", files[stem], f"has no partner in {folder.name}/{hint}")


def _missing(data_set: DataSet, place: Place, sides: tuple[dict[str, Path], dict[str, Path]]) -> Iterator[Fault]:
    present, part = sides[0].keys() | sides[1].keys(), place.part
    names = part.names or data_set.pair_files.keys()
    if names and (place.files or part.names):
        for name in sorted(names - present):
            yield Fault("missing", place.ir_folder, f"the pair {name} is missing")
        return
    counts = [part.pairs] if part is not PLAIN else [*(other.pairs for other in data_set.parts), data_set.pairs]
    known = [count for count in counts if count is not None]
    if known and len(present) not in known:
        wanted = " or ".join(f"{count:,}" for count in known)
        kind = "extra" if len(present) > max(known) else "missing"
        yield Fault(kind, place.ir_folder, f"{len(present):,} names of pairs; {wanted} are published")


def _pictures(
    data_set: DataSet, stem: str, files: Mapping[bool, Path], sizes: dict[str, tuple[int, int]]
) -> Iterator[Fault]:
    """Decode the images of a pair; the key of `files` says whether it is the infrared one."""
    shapes = {}
    for is_infrared, file in files.items():
        try:
            read_size(file)
            pixels = read_visible(file)
            if is_infrared:
                read_infrared(file)
        except DataError as error:
            yield Fault("damaged", file, str(error).removeprefix(f"{file}: "))
            continue
        shapes[is_infrared] = pixels.shape[:2]
        if data_set.coloured:
            planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))  # a tenth of the time of strided ones
            spread = float((planes.max(0) - planes.min(0)).mean())
            if is_infrared and spread > _COLOUR_LEVELS:
                yield Fault("colour", file, f"its channels differ by {spread:.0f} levels: a visible image?")
            if not is_infrared and spread == 0:
                yield Fault("colour", file, "its channels are equal: an infrared image, or a copy without colours?")
        if data_set.size and pixels.shape[:2] != data_set.size:
            yield Fault("size", file, f"{_told(pixels.shape)}; {_told(data_set.size)} is published")
        if data_set.lossless and file.read_bytes()[:4].startswith(_LOSSY):
            yield Fault("lossy", file, "a JPEG or WebP file; the data set is published without loss")
    if len(set(shapes.values())) > 1:
        yield Fault("size", files[True], f"{_told(shapes[True])}, but {files[False].name} is {_told(shapes[False])}")
    if shapes:
        sizes[stem] = next(iter(shapes.values()))


def _told(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]} (height x width)"


def _copies(root: Path, file: Path, content: dict[str, Path]) -> Iterator[Fault]:
    try:
        if file.stat().st_size == 0:
            return  # damaged
        first = content.setdefault(sha256_of(file), file)
    except OSError:
        return  # damaged
    if first != file:
        yield Fault("twice", file, f"has the bytes of {_relative(first, root)}")


def _labels(
    data_set: DataSet, place: Place, sizes: Mapping[str, tuple[int, int]], stems: set[str]
) -> tuple[int, list[Fault]]:
    labels, folder = data_set.labels, place.label_folder
    if labels is None or folder is None:
        return 0, []
    found, faults = find_labels(data_set, folder), []
    for stem in sorted(stems - found.keys()):
        faults.append(Fault("unlabelled", folder, f"no labels for {stem}"))
    for stem in sorted(found.keys() & sizes.keys()):
        try:
            if labels.kind == "boxes":
                read_boxes(found[stem], sizes[stem], labels.classes)
            elif read_mask(found[stem], labels.classes).shape != sizes[stem]:
                faults.append(Fault("label", found[stem], f"a mask of another size than {_told(sizes[stem])}"))
        except DataError as error:
            faults.append(Fault("label", found[stem], str(error).removeprefix(f"{found[stem]}: ")))
    return len(found.keys() & stems), faults


def _strays(data_set: DataSet, places: list[Place], partial: bool) -> Iterator[Fault]:
    """Find what lies in the folders and is not published there.

    Of a part of the data set, or a choice, the folder may hold the labels of the rest as well.
    """
    is_whole = data_set.name == data_set.folder and not partial
    of_labels: dict[Path, set[str]] = defaultdict(set)
    for place in places:
        if place.files or data_set.keep:
            continue
        for folder in (place.ir_folder, place.vis_folder):
            with as_data_error():
                inner, files = listing.list_folder(folder)
            yield from (Fault("extra", path, "a folder among the images") for path in inner)
            for file in files:
                if not _is_published(data_set, place.part, file.stem):
                    yield Fault("extra", file, "not a name of the published data set")
                if place.label_folder:
                    of_labels[place.label_folder].add(file.stem)
    for folder, stems in of_labels.items():
        for stem, file in sorted(find_labels(data_set, folder).items()):
            published = any(_is_published(data_set, place.part, stem) for place in places)
            if stem not in stems and (is_whole or not published):
                yield Fault("label", file, "labels of no image")


def _changed(data_set: DataSet, places: list[Place]) -> Iterator[Fault]:
    """Compare with the published bytes, where their checksums are known."""
    if not data_set.checksums:
        return
    rows = [line.split("  ") for line in read_lines(data_set.checksums)]
    known = {path: digest for digest, path in rows}
    for place in places:
        for side, folder in zip(data_set.own_sides or (), (place.ir_folder, place.vis_folder), strict=True):
            paths = [path for path in known if path.casefold().startswith(side)]
            wanted = {path.rpartition("/")[2]: known[path] for path in paths}
            with as_data_error():
                files = listing.list_folder(folder)[1]
            for file in files:
                if file.is_file() and wanted.get(file.name, sha256_of(file)) != sha256_of(file):
                    yield Fault("changed", file, "other bytes than the published file")


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
