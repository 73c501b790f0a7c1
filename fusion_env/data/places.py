"""Where the parts of a data set with a name lie on disk, in any of the layouts that are known."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fusion_env.data.folder import find_sides
from fusion_env.data.images import as_data_error
from fusion_env.data.layouts import DataSet, Part
from fusion_env.errors import DataError
from student import listing
from student.console import printable
from student.listing import INFRARED, VISIBLE

__all__ = ["PLAIN", "Place", "find_places"]

PLAIN = Part("", labelled=True)
"""The part that ``ir/`` and ``vi/`` are where nothing says which one."""

_FOREIGN = {"__macosx"}


@dataclass(frozen=True)
class Place:
    """Where a part lies.

    Attributes:
        part: The part.
        ir_folder: Folder of its infrared images.
        vis_folder: Folder of its visible images.
        label_folder: Folder of its labels, where there is one.
        plain_root: Folder of the two sides, if nothing but their names was found; it may hold lists.
        files: Infrared and visible file of each pair, where these do not lie in two folders; None for a missing one.
    """

    part: Part
    ir_folder: Path
    vis_folder: Path
    label_folder: Path | None = None
    plain_root: Path | None = None
    files: Mapping[str, tuple[Path | None, Path | None]] = field(default_factory=dict)


def find_places(data_set: DataSet, root: Path) -> tuple[list[Place], dict[str, str]]:
    """Find the parts of a data set.

    Args:
        data_set: The data set.
        root: Its folder; an outer folder with nothing else in it, as archives have them, is looked through.

    Returns:
        Where the parts lie, and for each part that is not there, what was looked for.

    Raises:
        DataError: If nothing of it is there.
    """
    if not os.path.isdir(root):
        find_sides(root)  # says what is there instead
    folder = root
    while True:
        places = _listed_files(data_set, folder) or _parts(data_set, folder) or _plain(data_set, folder)
        inner = _subfolders(folder)
        if places or len(inner) != 1:
            break
        folder = inner[0]
    if not places:
        wanted = " and ".join(f"{part.folders[0]}/" for part in data_set.parts if part.folders)
        told = "no folder for infrared images and one for visible ones (ir/ and vi/)" + (wanted and f", nor {wanted}")
        inside = ", ".join(f"{inner.name}/" for inner in _subfolders(root)[:10]) or "no folders"
        raise DataError(printable(f"{root}: nothing of {data_set.name}: {told}. It holds {inside}"))
    found = {place.part.name for place in places}
    absent = {
        part.name: f"{folder / part.folders[0]} with infrared and visible images"
        for part in data_set.parts
        if part.name not in found and PLAIN.name not in found
    }
    return places, absent


def _listed_files(data_set: DataSet, folder: Path) -> list[Place]:
    """Find single files by their published paths, with or without the outermost folder of these."""
    if not data_set.pair_files:
        return []
    present: dict[str, Path] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            present[file.relative_to(folder).as_posix().casefold()] = file

    def look(path: str) -> Path | None:
        path = path.casefold()
        return present.get(path) or present.get(path.partition("/")[2])

    files = {name: (look(ir), look(vis)) for name, (ir, vis) in data_set.pair_files.items()}
    if not any(ir or vis for ir, vis in files.values()):
        return []
    return [Place(data_set.parts[0], folder, folder, files=files)]


def _parts(data_set: DataSet, folder: Path) -> list[Place]:
    """Find parts that lie within folders of theirs, ``train/ir``, or the other way round, ``ir/train``."""
    places = []
    for part in data_set.parts:
        own = _unpacked(data_set, _child(folder, part.folders))
        sides = _sides(data_set, own) if own else None
        if sides is None:
            outer = _sides(data_set, folder)
            inner = [_child(side, part.folders) for side in outer] if outer else [None]
            sides = (inner[0], inner[1]) if all(inner) and inner[0] and inner[1] else None
        if sides:
            places.append(Place(part, *sides, _label_folder(data_set, folder, own, part)))
    return places


def _plain(data_set: DataSet, folder: Path) -> list[Place]:
    sides = _sides(data_set, folder)
    part = data_set.parts[0] if len(data_set.parts) == 1 else PLAIN
    return [Place(part, *sides, _label_folder(data_set, folder, None, part), folder)] if sides else []


def _sides(data_set: DataSet, folder: Path) -> tuple[Path, Path] | None:
    if data_set.own_sides:
        ir, vis = (_child(folder, (name,)) for name in data_set.own_sides)
        if ir and vis:
            return ir, vis
    names = {inner.name.casefold() for inner in _subfolders(folder)}
    return find_sides(folder) if names & set(INFRARED) and names & set(VISIBLE) else None


def _label_folder(data_set: DataSet, folder: Path, own: Path | None, part: Part) -> Path | None:
    if data_set.labels is None or not part.labelled:
        return None
    shared = _child(folder, data_set.labels.folders)
    within = _child(shared, part.folders)
    return _child(own, data_set.labels.folders) or within or shared


def _unpacked(data_set: DataSet, folder: Path | None) -> Path | None:
    """Look through folders that archives put around their content."""
    while folder and not _sides(data_set, folder) and len(_subfolders(folder)) == 1:
        folder = _subfolders(folder)[0]
    return folder


def _child(folder: Path | None, names: Collection[str]) -> Path | None:
    """Return the subfolder with one of some names, the first of them that is there."""
    present = {inner.name.casefold(): inner for inner in _subfolders(folder)} if folder else {}
    return next((present[name] for name in names if name in present), None)


def _subfolders(folder: Path) -> list[Path]:
    with as_data_error():
        return [inner for inner in listing.list_folder(folder)[0] if inner.name.casefold() not in _FOREIGN]
