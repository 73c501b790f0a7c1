"""Plain files on disk."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replaced", "write_atomic"]


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new file beside a path, with its ending; it takes the path's place at the end, or is gone after an error.

    Readers see the old or the new content, never a part, even after a crash.

    Args:
        path: The file; its folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part{path.suffix}")
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
