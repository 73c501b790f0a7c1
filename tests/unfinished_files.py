"""Files that a process was writing when it was killed, for the tests of all that meet them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from student.files import replaced


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Leave beside a file what a process leaves there that is killed while it writes it; yields where."""
    writing = replaced(path)
    part = writing.__enter__()
    part.write_bytes(b"half a file")
    yield part
    writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
