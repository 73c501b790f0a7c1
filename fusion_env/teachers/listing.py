"""The list of all teachers for people: what each is, under which licence, and whether its weights are here."""

import os
from dataclasses import dataclass
from pathlib import Path

from fusion_env.errors import FusionEnvError
from fusion_env.teachers.base import Teacher
from fusion_env.teachers.published import weights_folder
from fusion_env.teachers.registry import get, names

__all__ = ["Catalogue", "TeacherEntry", "catalogue"]

_COLUMNS = ("name", "weights", "licence", "files", "published at", "what")


@dataclass(frozen=True)
class TeacherEntry:
    """One teacher of the list.

    Attributes:
        name: For `load`.
        summary: What it is, one line.
        weights: ``"present"`` or ``"absent"`` for published weights, ``"none needed"``, or ``"yours"`` where the caller
            brings what the teacher reads.
        licence: Of published weights, else empty.
        repository: Where they are published, else empty.
        files: Their names, else empty.
        path: The folder where they were found, else None.
    """

    name: str
    summary: str
    weights: str
    licence: str = ""
    repository: str = ""
    files: tuple[str, ...] = ()
    path: Path | None = None


class Catalogue(tuple[TeacherEntry, ...]):
    """Entries in the order of their names; printed as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = [_COLUMNS] + [
            (entry.name, entry.weights, entry.licence, " ".join(entry.files), entry.repository, entry.summary)
            for entry in self
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )


def catalogue(folder: str | os.PathLike[str] | None = None) -> Catalogue:
    """List all teachers.

    Args:
        folder: Where weights are looked for, as ``folder/NAME/FILE``; None: the folder that the environment variable
            ``FUSION_ENV_WEIGHTS`` names.

    Returns:
        One entry for each name; ``print`` shows a table. Files are looked for, not read.
    """
    root = weights_folder() if folder is None else Path(folder)
    return Catalogue(_entry(name, root) for name in names())


def _entry(name: str, root: Path | None) -> TeacherEntry:
    try:
        cls = get(name)
    except FusionEnvError as error:
        return TeacherEntry(name, str(error), "yours")
    published = cls.published
    if published is None:
        return TeacherEntry(name, _first_line(cls), "yours" if cls.needs_weights else "none needed")
    path = None if root is None else root / (published.folder or name)
    present = path is not None and all((path / file).is_file() for file in published.files)
    return TeacherEntry(
        name,
        published.summary,
        "present" if present else "absent",
        published.licence,
        published.repository,
        published.files,
        path if present else None,
    )


def _first_line(cls: type[Teacher]) -> str:
    # Not inspect.getdoc, which gives a class without a docstring that of its base.
    return (cls.__doc__ or f"{cls.__module__}.{cls.__qualname__}").strip().split("\n")[0]
