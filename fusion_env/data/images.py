"""Reading and writing of single image files: whatever a data set holds becomes 8-bit grey or RGB, or a `DataError`.

Rules, the same for every reader:

- The content decides the format (PNG, JPEG, BMP, TIFF, WebP, GIF, PPM/PGM), never the file's extension.
- Grey, 1-bit, palette, RGB and CMYK pictures are read. Alpha is dropped, not composited: what lies below it is the
  measurement. Colour profiles are ignored. Of an animation or a multi-page file the first picture is read.
- An EXIF orientation that stands before the pixel data is applied.
- 16-bit grey is divided by 257, so that 65535 becomes 255. Of 16-bit colour the decoder keeps the upper byte, which is
  at most one level away from that. 32-bit and floating-point pictures are refused: they have no agreed range.
- Truncated or corrupt pixel data is an error (PNG checksums are verified), and so are more than 100 megapixels, which
  is decided before anything is decoded.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fusion_env.data.colour import luma_levels
from fusion_env.errors import DataError

__all__ = ["MAX_MEGAPIXELS", "Pixels", "read_infrared", "read_luma", "read_size", "read_visible", "write_png"]

Pixels = NDArray[np.uint8]

MAX_MEGAPIXELS = 100

# An explicit list also keeps decoders that start other programs (EPS) away from files that only pretend to be images.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 274, 256, 257


def read_size(path: str | Path) -> tuple[int, int]:
    """Read the size of an image from its header, without decoding pixels.

    Args:
        path: Image file.

    Returns:
        Height and width in pixels, after the EXIF orientation.

    Raises:
        DataError: If the file is missing, no image, or larger than 100 megapixels.
    """
    with _opened(Path(path)) as image:
        width, height = image.size
        if image.format == "TIFF":  # whether Pillow's own size is the turned one depends on its version
            width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
        return (width, height) if _orientation(image) > 4 else (height, width)


def read_infrared(path: str | Path) -> Pixels:
    """Read an infrared image.

    Colour files are turned to luma, which for the usual grey-stored-as-RGB file is its common channel. False colours
    carry no temperature order in their luma; convert such images first.

    A 16-bit image is refused if it has more than 256 different values but they span at most a quarter of the
    range. That is a camera's raw counts; divided by 257 they would be a nearly flat picture, and stretching each image
    by its own minimum and maximum would give equal temperatures unequal levels. Only the user knows the right range.

    Args:
        path: Image file.

    Returns:
        uint8 ``[H, W]``.

    Raises:
        DataError: If the file cannot be read, or holds raw 16-bit counts as described.
    """
    return _to_grey(_decode(Path(path), refuse_raw_counts=True))


def read_visible(path: str | Path) -> Pixels:
    """Read a visible image; a grey one gets three equal channels.

    Args:
        path: Image file.

    Returns:
        uint8 RGB ``[H, W, 3]``.

    Raises:
        DataError: If the file cannot be read.
    """
    pixels = _decode(Path(path))
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_luma(path: str | Path) -> Pixels:
    """Read the luma of an image, such as a fused one with one or three channels.

    Args:
        path: Image file.

    Returns:
        uint8 ``[H, W]``, colour rounded half up to whole levels (`fusion_env.data.colour.luma_levels`).

    Raises:
        DataError: If the file cannot be read.
    """
    return _to_grey(_decode(Path(path)))


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


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image with its header read and its size checked; every failure inside becomes a one-line DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        # Given a path, Pillow maps uncompressed TIFF files into memory, and then fails on turned ones.
        with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
            if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
                raise _too_large(path, f"{image.width} x {image.height} pixels are")
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image in a known format ({', '.join(_FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path, "the picture is") from None
    # Hostile bytes make decoders raise nearly anything: OSError, SyntaxError, struct.error, KeyError, MemoryError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or "decoder failed"
        raise DataError(f"{path}: cannot be read, {type(error).__name__}: {reason}") from error


def _too_large(path: Path, subject: str) -> DataError:
    return DataError(f"{path}: {subject} more than {MAX_MEGAPIXELS} megapixels; crop or shrink the image first")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, as far as the header tells."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # here getexif() would decode the whole picture in search of a chunk behind it
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _decode(path: Path, refuse_raw_counts: bool = False) -> Pixels:
    """Return the picture as uint8 ``[H, W]`` or ``[H, W, 3]``, upright."""
    with _opened(path) as image:
        if image.format == "PNG":
            image.verify()  # the decoder itself passes over checksums; a verified image must be opened afresh
    with _opened(path) as image:
        # Pillow turns TIFF pictures itself while it loads them.
        orientation = 1 if image.format == "TIFF" else _orientation(image)
        image.load()
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            counts = np.asarray(image).astype(np.int32)
            if refuse_raw_counts:
                _refuse_raw_counts(path, counts)
            pixels = ((counts + 128) // 257).astype(np.uint8)
        else:
            pixels = _eight_bit(path, image)
        return np.array(_upright(pixels, orientation), order="C")  # Pillow's own memory is read-only


def _eight_bit(path: Path, image: Image.Image) -> Pixels:
    if image.mode in ("I", "F"):
        kind = "32-bit integer" if image.mode == "I" else "floating-point"
        raise DataError(f"{path}: {kind} pixels have no agreed range; save the image with 8 or 16 bits")
    image.info.pop("transparency", None)  # a transparent colour would only make convert() warn
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # undo the premultiplied alpha before dropping it
    grey = image.mode in ("1", "L", "LA")
    return np.asarray(image.convert("L" if grey else "RGB"))


def _refuse_raw_counts(path: Path, counts: NDArray[np.int32]) -> None:
    low, high = int(counts.min()), int(counts.max())
    if 256 <= high - low <= 65535 // 4 and len(np.unique(counts)) > 256:
        raise DataError(
            f"{path}: 16-bit infrared values span only {low} to {high} of 0 to 65535, which looks like raw counts; "
            "convert the data set to 8 bits with one range for all its images"
        )


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: 5 to 8 swap the axes, the rest is mirroring."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _to_grey(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return pixels
    return luma_levels(torch.from_numpy(pixels).permute(2, 0, 1))[0].numpy()


def _to_levels(image: NDArray[np.generic] | Tensor) -> Pixels:
    """Bring what `write_png` accepts to uint8 ``[H, W]`` or ``[H, W, 3]``."""
    array = image
    if isinstance(image, Tensor):
        # bfloat16, which autocast returns, has no numpy counterpart
        array = (image.float() if image.is_floating_point() else image).detach().cpu().numpy()
        if array.ndim == 3:
            array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
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
