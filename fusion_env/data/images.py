"""Reading and writing of single image files: whatever a data set holds becomes 8-bit grey or RGB, or a `DataError`.

Rules, the same for every reader:

- The content decides the format (PNG, JPEG, BMP, TIFF, WebP, GIF, PPM/PGM), never the file's extension.
- Grey, 1-bit, palette, RGB and CMYK pictures are read. Alpha is dropped, not composited: what lies below it is the
  measurement. Colour profiles are ignored. Of an animation or a multi-page file the first picture is read.
- An EXIF orientation that stands before the pixel data is applied.
- 16-bit grey is divided by 257, so that 65535 becomes 255. Of 16-bit colour the decoder keeps the upper byte, which is
  at most one level away from that. 32-bit and floating-point pictures are refused: they have no agreed range.
- A truncated file is an error, and so is what the decoder finds damaged: every flipped bit of a PNG file (it holds
  checksums), not every one of the other formats. More than 100 megapixels, or 65,535 pixels in one direction, are
  refused before anything is decoded.
- Every failure is a `DataError` of one line that names the file. The decoder's own warnings are not shown.
"""

import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fusion_env.data.colour import luma_levels
from fusion_env.data.pairs import printable
from fusion_env.errors import DataError

__all__ = [
    "MAX_MEGAPIXELS",
    "MAX_SIDE",
    "Pixels",
    "read_infrared",
    "read_luma",
    "read_size",
    "read_visible",
    "write_png",
]

Pixels = NDArray[np.uint8]

MAX_MEGAPIXELS = 100
MAX_SIDE = 65_535
"""Largest height and width in pixels, those of JPEG; a damaged header soon names more."""

_TOO_LARGE = f"more than {MAX_MEGAPIXELS} megapixels (or {MAX_SIDE} in one direction); crop or shrink the image first"

# An explicit list also keeps decoders that start other programs (EPS) away from files that only pretend to be images.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_SIGNATURES = {
    "PNG": (b"\x89PNG",),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF8",),
    "PPM": (b"P5", b"P6"),
}
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 274, 256, 257

# Pillow logs an error before it raises one; where nobody has set up logging, that would go to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_size(path: str | Path) -> tuple[int, int]:
    """Read the size of an image from its header, without decoding pixels.

    Args:
        path: Image file.

    Returns:
        Height and width in pixels, after the EXIF orientation.

    Raises:
        DataError: If the file is missing, no image, larger than 100 megapixels, or holds 32-bit pixels.
    """
    with _opened(Path(path)) as image:
        width, height = image.size
        if image.format == "TIFF":
            width, height = _tiff_size(image)
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
    """Open an image with its header read and checked; every failure inside becomes a one-line DataError."""
    try:
        _check_regular(path)
        # Given a path, Pillow maps uncompressed TIFF files into memory, and then fails on turned ones.
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters in them becomes an error or is harmless
            with Image.open(stream, formats=_FORMATS) as image:
                if image.width * image.height > MAX_MEGAPIXELS * 1_000_000 or max(image.size) > MAX_SIDE:
                    raise DataError(f"{image.width} x {image.height} pixels are {_TOO_LARGE}")
                _refuse_32_bit(image)
                yield image
    except UnidentifiedImageError:
        raise _error(path, _unidentified(path)) from None
    except Image.DecompressionBombError:
        raise _error(path, f"the picture is {_TOO_LARGE}") from None
    except DataError as error:
        raise _error(path, str(error)) from None
    # Hostile bytes make decoders raise nearly anything: OSError, SyntaxError, struct.error, KeyError, MemoryError, ...
    except Exception as error:
        raise _error(path, f"cannot be read: {_reason(error)}") from error


def _error(path: Path, reason: str) -> DataError:
    return DataError(printable(f"{path}: {reason}"))


def _check_regular(path: Path) -> None:
    if not path.is_file():  # a named pipe or a device could keep the reader waiting for ever
        if path.is_symlink() and not path.exists():
            raise DataError(f"a symbolic link to {os.readlink(path)}, which does not exist or leads in a circle")
        raise DataError("not a regular file" if path.exists() else "no such file")
    if path.stat().st_size == 0:
        raise DataError("the file is empty (0 bytes)")


def _unidentified(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)
    for name, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            return f"a {name} file that is cut off, damaged, without pixels, or of a kind that is not read"
    return f"not an image in a known format ({', '.join(_FORMATS)})"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    told = isinstance(error, (OSError, SyntaxError, ValueError)) and str(error)
    return str(error) if told else "damaged image data"


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
        orientation = 1  # Pillow turns TIFF pictures itself while it loads them
        if image.format == "TIFF":
            _refuse_missing_strips(image)
        else:
            orientation = _orientation(image)
        image.load()
        if _is_16_bit(image):
            counts = np.asarray(image).astype(np.int32)
            if refuse_raw_counts:
                _refuse_raw_counts(counts)
            pixels = ((counts + 128) // 257).astype(np.uint8)
        else:
            pixels = _eight_bit(image)
        return np.array(_upright(pixels, orientation), order="C")  # Pillow's own memory is read-only


def _tiff_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height as stored; whether Pillow's own size is the turned one depends on its version."""
    return image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]


def _refuse_missing_strips(image: Image.Image) -> None:
    """Refuse a TIFF picture that is stored in part; Pillow would leave the rest black, without a word."""
    width, height = _tiff_size(image)
    right, bottom = (max(tile[1][side] for tile in image.tile) for side in (2, 3))
    if right < width or bottom < height:
        raise DataError(f"only {right} x {bottom} of its {width} x {height} pixels are stored")


def _is_16_bit(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _refuse_32_bit(image: Image.Image) -> None:
    if image.mode in ("I", "F") and not _is_16_bit(image):
        kind = "32-bit integer" if image.mode == "I" else "floating-point"
        raise DataError(f"{kind} pixels have no agreed range; save the image with 8 or 16 bits")


def _eight_bit(image: Image.Image) -> Pixels:
    image.info.pop("transparency", None)  # a transparent colour would only make convert() warn
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # undo the premultiplied alpha before dropping it
    grey = image.mode in ("1", "L", "LA")
    return np.asarray(image.convert("L" if grey else "RGB"))


def _refuse_raw_counts(counts: NDArray[np.int32]) -> None:
    low, high = int(counts.min()), int(counts.max())
    if 256 <= high - low <= 65535 // 4 and len(np.unique(counts)) > 256:
        raise DataError(
            f"16-bit infrared values span only {low} to {high} of 0 to 65535, which looks like raw counts; "
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
