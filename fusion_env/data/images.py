"""Image files for the package: the readers of `student.images` with the package's own error, and writing."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion_env.errors import DataError
from student import images
from student.errors import ImageError
from student.images import Pixels

__all__ = ["as_data_error", "read_infrared", "read_luma", "read_size", "read_visible", "write_png"]


@contextmanager
def as_data_error() -> Iterator[None]:
    """Turn the student's error about images, which knows nothing of this package, into a `DataError`."""
    try:
        yield
    except ImageError as error:
        raise DataError(str(error)) from error


read_infrared = as_data_error()(images.read_infrared)
read_luma = as_data_error()(images.read_luma)
read_size = as_data_error()(images.read_size)
read_visible = as_data_error()(images.read_visible)


def write_png(path: str | Path, image: NDArray[np.generic] | Tensor) -> None:
    """Write a PNG file that is either complete or not there; missing parent folders are made.

    Args:
        path: File to write, ending in ``.png``; an existing one is replaced.
        image: Array ``[H, W]`` or ``[H, W, 3]``, or tensor ``[H, W]``, ``[1, H, W]`` or ``[3, H, W]`` on any device.
            uint8 levels are written as they are. Floating-point values are clamped to 0..1 (putting chroma back can
            leave that range) and rounded half up to levels.

    Raises:
        ValueError: If the path does not end in ``.png`` or the image has another shape, type, or a NaN.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png. Got {str(path)!r}")
    picture = Image.fromarray(_to_levels(image))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        picture.save(partial, format="PNG")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _to_levels(image: NDArray[np.generic] | Tensor) -> Pixels:
    """Bring what `write_png` accepts to uint8 ``[H, W]`` or ``[H, W, 3]``."""
    if isinstance(image, Tensor):
        # bfloat16, which autocast returns, has no numpy counterpart
        array = (image.float() if image.is_floating_point() else image).detach().cpu().numpy()
        if array.ndim == 3:
            array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    else:
        array = image
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(
            "image must be an array [H, W] or [H, W, 3], or a tensor [H, W], [1, H, W] or [3, H, W]. "
            f"Got {type(image).__name__} {list(image.shape)}"
        )
    if np.issubdtype(array.dtype, np.floating):
        if np.isnan(array).any():
            raise ValueError("image contains NaN; no level stands for it")
        array = np.floor(np.clip(array, 0, 1) * 255 + 0.5).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"image must hold uint8 levels or floating-point values in 0..1. Got {array.dtype}")
    return np.ascontiguousarray(array)
