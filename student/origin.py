"""Where a student comes from: embedded, a file, a folder or a repository of the Hugging Face hub."""

import re
from pathlib import Path

from student.embedded import EMBEDDED, load_embedded
from student.network import FusionStudent
from student.weights import build_student, load_student

__all__ = ["open_student"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = (".safetensors", ".pt", ".pth", ".bin")


def open_student(weights: str | Path | None) -> tuple[FusionStudent, str]:
    """Load a student from where its weights are.

    Args:
        weights: A file, a folder that ``save_pretrained`` wrote, or ``OWNER/NAME`` on the hub, in this order; None for
            the embedded student. Nothing is fetched while there is a file or folder of that name.

    Returns:
        The student on the CPU in evaluation mode, and what to call it.

    Raises:
        WeightsError: There is no such thing, or it cannot be used.
    """
    if weights is None:
        return build_student(load_embedded(), EMBEDDED), EMBEDDED
    path = Path(weights)
    if path.is_dir() or (not path.exists() and _HUB_ID.fullmatch(str(weights)) and path.suffix not in _FILES):
        from student.hub import open_pretrained

        return open_pretrained(str(weights)), str(weights)
    return load_student(path), str(path)
