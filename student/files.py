"""Plain files on disk."""

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_part", "parts_of", "replaced", "write_atomic"]

_PART = re.compile(r"\.[0-9a-f]{16}-[0-9a-f]{32}\.part")
_LONGEST_ENDING = 64
"""Bytes of an ending that says what a file is. Names have at most 255 on most file systems."""


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new file beside a path, with its ending; it takes the path's place at the end, or is gone after an error.

    Readers see the old or the new content, never a part, even after a crash.

    Args:
        path: The file; its folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_ENDING else ""
    part = path.with_name(f".{_mark(path)}-{uuid.uuid4().hex}.part{ending}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that readers see the old or the new content, never a part, even after a crash.

    Args:
        path: The file; its folder is made if need be.
        data: The new content.
    """
    with replaced(path) as part:
        part.write_bytes(data)


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """List what processes that were killed while they wrote a file left beside it."""
    path = Path(path)
    return sorted(path.parent.glob(f".{_mark(path)}-*.part*"))


def is_part(path: Path) -> bool:
    """Tell by its name whether a file is being written, or was by a process that was killed."""
    return _PART.match(path.name) is not None


def _mark(path: Path) -> str:
    """Return a name for a name, which may itself be as long as the file system allows."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
