"""Which files of a folder are images, and which of two folders belong together.

Hidden files (``._NAME`` of macOS among them), subfolders and side files (text, tables, ``Thumbs.db``) are passed over;
any other file must be an image, whatever its extension. Files belong together by stem. If no stem agrees, marks of the
side are left out first: ``IR_01.png`` and ``VIS_01.jpg`` are the pair ``01``.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from student.console import printable
from student.errors import ImageError

__all__ = ["INFRARED", "VISIBLE", "by_stem", "list_folder", "match_names", "match_sides"]

T = TypeVar("T")

INFRARED = ("ir", "infrared")
VISIBLE = ("vi", "vis", "visible")
"""Names of the two sides, as folders and as marks in file names."""

_SIDECARS = {".csv", ".db", ".ini", ".json", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml"}


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the subfolders and the other entries of a folder, both sorted by name, without hidden ones.

    Raises:
        ImageError: It cannot be listed.
    """
    folders: list[Path] = []
    others: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith("."):
                    (folders if os.path.isdir(entry) else others).append(folder / entry.name)
    except OSError as error:
        raise ImageError(printable(f"{folder}: cannot be listed, {error.strerror}")) from error
    return folders, others


def by_stem(folder: Path) -> dict[str, list[Path]]:
    """List the image files of a folder by name without extension; more than one of a stem is for the caller to refuse.

    Raises:
        ImageError: It cannot be listed.
    """
    files: dict[str, list[Path]] = {}
    for file in list_folder(folder)[1]:
        if file.suffix.lower() not in _SIDECARS:
            files.setdefault(file.stem, []).append(file)
    return files


def match_sides(*, ir: Mapping[str, T], vis: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Return two listings by name of the pair: the stem, without the mark of the side if no two stems agree."""
    if ir.keys() & vis.keys():
        return dict(ir), dict(vis)
    return _unmarked(ir, INFRARED), _unmarked(vis, VISIBLE)


def match_names(files: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    """Return a listing of fused images by name of the pair: without marks of either side if no stem is a name."""
    if files.keys() & set(names):
        return dict(files)
    return _unmarked(files, INFRARED + VISIBLE)


def _unmarked(files: Mapping[str, T], marks: Collection[str]) -> dict[str, T]:
    """Leave out marks such as ``IR_`` or ``-visible`` from names, unless two names would become one."""
    mark = f"(?:{'|'.join(marks)})"
    pattern = re.compile(rf"{mark}(?:[-_ .]|(?=\d))(.+)|(.+?)(?:[-_ .]|(?<=\d)){mark}", re.IGNORECASE | re.DOTALL)
    matches = {stem: pattern.fullmatch(stem) for stem in files}
    names = {stem: match[1] or match[2] if match else stem for stem, match in matches.items()}
    unique = len(set(names.values())) == len(names)
    return {names[stem]: file for stem, file in files.items()} if unique else dict(files)
