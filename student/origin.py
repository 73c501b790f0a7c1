"""Where a student comes from: embedded, a file, a folder or a repository of the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from student.embedded import EMBEDDED, embedded_file
from student.network import FusionStudent
from student.weights import PRETRAINED, WeightsError, load_student

__all__ = ["EXPOSURES", "open_student", "weights_file"]

EXPOSURES = ("network", "sources")
"""Where brightness and contrast of a fused image can be from."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = (".safetensors", ".pt", ".pth", ".bin")


@contextmanager
def weights_file(weights: str | Path | None) -> Iterator[tuple[Path, str]]:
    """Give a student's weights as a file; arguments and errors are those of `open_student`.

    Yields:
        The file, which need not be there, and what to call the student.
    """
    if weights is None:
        with embedded_file() as path:
            yield path, EMBEDDED
        return
    path = Path(weights)
    if path.is_dir():
        path = path / PRETRAINED
        if not path.exists():
            raise WeightsError(
                f"Weights file {path} cannot be opened: no such file. A folder must be one that save_pretrained wrote; "
                "of a run name its student.safetensors."
            )
    elif not path.exists() and _HUB_ID.fullmatch(str(weights)) and path.suffix not in _FILES:
        from student.hub import fetch_weights

        path = fetch_weights(str(weights))
    yield path, str(weights)


def open_student(weights: str | Path | None, exposure: str | None = None) -> tuple[FusionStudent, str]:
    """Load a student from where its weights are.

    Args:
        weights: A file, a folder that ``save_pretrained`` wrote, or ``OWNER/NAME`` on the hub, in this order; None for
            the embedded student. Nothing is fetched while there is a file or folder of that name.
        exposure: ``"sources"`` gives fused images their sources' brightness and contrast, ``"network"`` shows what the
            network makes; None for what the weights say, which is the latter but for the embedded student.

    Returns:
        The student on the CPU in evaluation mode, and what to call it.

    Raises:
        WeightsError: There is no such thing, or it cannot be used.
        ValueError: There is no such exposure.
    """
    if exposure not in (None, *EXPOSURES):
        raise ValueError(f"exposure must be one of {', '.join(map(repr, EXPOSURES))}, or None. Got {exposure!r}.")
    with weights_file(weights) as (path, name):
        student = load_student(path, name)
    if exposure is not None:
        student.exposure_of_sources = exposure == "sources"
    return student, name
