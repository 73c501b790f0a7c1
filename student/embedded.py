"""The student that comes with the package; its card, `student/assets/student.md`, says how it was trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from student.weights import WeightsError

__all__ = ["EMBEDDED", "embedded_file"]

EMBEDDED = "the embedded student"
"""What messages call it."""


@contextmanager
def embedded_file() -> Iterator[Path]:
    """Give the embedded student as a file, also where the package is a zip archive.

    Raises:
        WeightsError: The package was installed without its assets.
    """
    asset = resources.files("student") / "assets" / "student.safetensors"
    if not asset.is_file():
        raise WeightsError(f"{asset}, a part of this package, is missing; install the package again.")
    with resources.as_file(asset) as path:
        yield path
