"""Write a picture at its depth: 8 bits of uint8 levels, 16 of floating-point values."""

import io
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from student.errors import ImageError
from student.files import write_atomic

__all__ = ["FORMATS", "make_folder", "write_image"]

FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""What can be written, by the ending of the file's name."""

_JPEG_QUALITY = 95


def make_folder(folder: Path) -> None:
    """Make a folder for results if need be, and see that files can be written there, before hours of computing.

    Raises:
        ImageError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ImageError(f"{folder}: no folder to write into, {error.strerror}") from error


def write_image(path: Path, picture: NDArray[Any]) -> None:
    """Write a picture whole or not at all.

    Args:
        path: The file; its ending tells the format.
        picture: Grey [H, W] or RGB [H, W, 3]; uint8, or floating-point values in 0..1 for 16 bits.

    Raises:
        ImageError: The format is not known, or has 8 bits only; or the file cannot be written.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path} must end in one of {', '.join(FORMATS)}")
    if picture.dtype == np.uint8:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format=kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
        _write(path, buffer.getvalue())
        return
    if kind == "JPEG":
        raise ImageError(f"{path}: JPEG has 8 bits and the visible image 16; let the name end in .png or .tif")
    counts = np.floor(np.clip(picture, 0, 1) * 65535 + 0.5).astype(np.uint16)
    # Pillow writes no colour of 16 bits; OpenCV has its channels the other way round.
    _, data = cv2.imencode(path.suffix.lower(), counts if counts.ndim == 2 else counts[..., ::-1])
    _write(path, data.tobytes())


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written, {error.strerror}") from error
