"""Reading of single image files: whatever a data set holds becomes 8-bit grey or RGB, or an `ImageError`.

Rules, the same for every reader:

- The content decides the format (PNG, JPEG, BMP, TIFF, WebP, GIF, PPM/PGM), never the file's extension.
- Grey, 1-bit, palette, RGB and CMYK pictures are read. Alpha is dropped, not composited: what lies below it is the
  measurement. Colour profiles are ignored. Of an animation or a multi-page file the first picture is read.
- An EXIF orientation that stands before the pixel data is applied.
- 16-bit values become levels as `student.sixteen_bit` says: usually 65535 becomes 255. 32-bit and floating-point
  pictures are refused: they have no agreed range.
- A truncated file is an error, and so is what the decoder finds damaged: every flipped bit of a PNG file (it holds
  checksums), not every one of the other formats. More than 100 megapixels, or 65,535 pixels in one direction, are
  refused before anything is decoded.
- Every failure is an `ImageError` of one line that names the file. Pillow's own warnings are not shown.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from student.console import printable
from student.errors import ImageError
from student.sixteen_bit import Counts, Scale, stated_white, to_levels, to_unit

__all__ = [
    "MAX_MEGAPIXELS",
    "MAX_SIDE",
    "Deep",
    "Pixels",
    "read_deep",
    "read_infrared",
    "read_luma",
    "read_size",
    "read_visible",
]

Pixels = NDArray[np.uint8]
Deep = NDArray[np.uint8] | NDArray[np.float32]
"""A picture at its own depth: uint8 levels of an 8-bit file, values in 0..1 of one with 16."""

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
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PHOTOMETRIC = 274, 256, 257, 258, 262

_FOREIGN = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", _FOREIGN))
}
"""Raw modes of 16-bit colour, each with the one that takes the other byte of every value."""

_AS_STATED = Scale()

# Pillow logs an error before it raises one; where nobody has set up logging, that would go to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_size(path: str | Path) -> tuple[int, int]:
    """Read the size of an image from its header, without decoding pixels.

    Args:
        path: Image file.

    Returns:
        Height and width in pixels, after the EXIF orientation.

    Raises:
        ImageError: If the file is missing, no image, larger than 100 megapixels, or holds 32-bit pixels.
    """
    with _opened(Path(path)) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):
            width, height = _tiff_size(image)
        return (width, height) if _orientation(image) > 4 else (height, width)


def read_infrared(path: str | Path, scale: Scale = _AS_STATED) -> Pixels:
    """Read an infrared image.

    Colour files are turned to luma, which for the usual grey-stored-as-RGB file is its common channel. False colours
    carry no temperature order in their luma; convert such images first.

    Args:
        path: Image file.
        scale: How 16-bit values become levels.

    Returns:
        uint8 ``[H, W]``.

    Raises:
        ImageError: If the file cannot be read, or nobody says what its 16-bit values mean.
    """
    return read_luma(path, scale)


def read_visible(path: str | Path, scale: Scale = _AS_STATED) -> Pixels:
    """Read a visible image; a grey one gets three equal channels.

    Args:
        path: Image file.
        scale: How 16-bit values become levels.

    Returns:
        uint8 RGB ``[H, W, 3]``.

    Raises:
        ImageError: As for `read_infrared`.
    """
    pixels = _decode(Path(path), scale)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_luma(path: str | Path, scale: Scale = _AS_STATED) -> Pixels:
    """Read the luma of an image, such as a fused one with one or three channels.

    Args:
        path: Image file.
        scale: How 16-bit values become levels.

    Returns:
        uint8 ``[H, W]``, colour rounded half up to whole levels.

    Raises:
        ImageError: As for `read_infrared`.
    """
    pixels = _decode(Path(path), scale)
    if pixels.ndim == 2:
        return pixels
    red, green, blue = np.moveaxis(pixels.astype(np.int32), 2, 0)
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def read_deep(path: str | Path, scale: Scale = _AS_STATED) -> Deep:
    """Read an image without rounding 16-bit values to levels.

    Args:
        path: Image file.
        scale: How 16-bit values become 0..1.

    Returns:
        Grey ``[H, W]`` or RGB ``[H, W, 3]``.

    Raises:
        ImageError: As for `read_infrared`.
    """
    return _decode(Path(path), scale, to_unit)


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile]:
    """Open an image with its header read and checked; every failure inside becomes a one-line ImageError."""
    try:
        _check_regular(path)
        # Given a path, Pillow maps uncompressed TIFF files into memory, and then fails on turned ones.
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters in them becomes an error or is harmless
            with Image.open(stream, formats=_FORMATS) as image:
                if image.width * image.height > MAX_MEGAPIXELS * 1_000_000 or max(image.size) > MAX_SIDE:
                    raise ImageError(f"{image.width} x {image.height} pixels are {_TOO_LARGE}")
                _refuse_32_bit(image)
                yield image
    except UnidentifiedImageError:
        raise _error(path, _unidentified(path)) from None
    except Image.DecompressionBombError:
        raise _error(path, f"the picture is {_TOO_LARGE}") from None
    except ImageError as error:
        raise _error(path, str(error)) from None
    # Hostile bytes make decoders raise nearly anything: OSError, SyntaxError, struct.error, KeyError, MemoryError, ...
    except Exception as error:
        raise _error(path, f"cannot be read: {_reason(error)}") from error


def _error(path: Path, reason: str) -> ImageError:
    return ImageError(printable(f"{path}: {reason}"))


def _check_regular(path: Path) -> None:
    if not path.is_file():  # a named pipe or a device could keep the reader waiting for ever
        if path.is_symlink() and not path.exists():
            raise ImageError(f"a symbolic link to {os.readlink(path)}, which does not exist or leads in a circle")
        raise ImageError("not a regular file" if path.exists() else "no such file")
    if path.stat().st_size == 0:
        raise ImageError("the file is empty (0 bytes)")


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


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation, 1 to 8, as far as the header tells."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # here getexif() would decode the whole picture in search of a chunk behind it
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _decode(path: Path, scale: Scale, convert: Callable[[Counts, int, Scale], Any] = to_levels) -> Any:
    """Return the picture as ``[H, W]`` or ``[H, W, 3]``, upright: uint8, or what 16-bit values are converted to."""
    with _opened(path) as image:
        if image.format == "PNG":
            image.verify()  # the decoder itself passes over checksums; a verified image must be opened afresh
    with _opened(path) as image:
        orientation = 1  # Pillow turns TIFF pictures itself while it loads them
        if isinstance(image, TiffImageFile):
            _refuse_missing_strips(image)
        else:
            orientation = _orientation(image)
        if image.format == "PPM":
            _refuse_values_above_white(path, image)
        counts, white = _grey_counts(image) if _is_16_bit(image) else _colour_counts(path, image)
        if counts is not None:
            pixels = convert(counts, white or stated_white(path, image, counts), scale)
        else:
            pixels = _eight_bit(image)
        return np.array(_upright(pixels, orientation), order="C")  # Pillow's own memory is read-only


def _grey_counts(image: ImageFile) -> tuple[Counts, int]:
    """Return the values of 16-bit grey, and what the header says of white (0: nothing)."""
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0:
        raise ImageError("its header says that 0 is white, which is not read with 16 bits; save it with 0 as black")
    _, maxval = _storage(image)
    image.load()
    counts = np.asarray(image).astype(np.int32)
    if maxval:  # Pillow has brought it to 65535
        counts = ((counts.astype(np.int64) * maxval + 32767) // 65535).astype(np.int32)
    return counts, maxval


def _colour_counts(path: Path, image: ImageFile) -> tuple[Counts | None, int]:
    """Return the same of 16-bit colour, or of grey with alpha; no values where the picture has 8 bits.

    Pillow keeps 8 bits of such pictures: the upper byte, or in the other byte order the lower one.
    """
    raw_mode, maxval = _storage(image)
    if raw_mode == "LA;16B":
        _load_as(image, "RGBA")  # the four bytes of a pixel
        upper, lower, *_ = np.moveaxis(np.asarray(image).astype(np.int32), 2, 0)
        return upper << 8 | lower, 0
    wide_tiff = isinstance(image, TiffImageFile) and 16 in image.tag_v2.get(_TIFF_BITS, ())
    if not (wide_tiff or maxval or ";16" in raw_mode):
        return None, 0
    if raw_mode not in _OTHER_BYTE:
        raise ImageError("16-bit colour of a kind that is not read; save it as PNG")
    _load_as(image, raw_mode)
    with _opened(path) as again:
        _load_as(again, _OTHER_BYTE[raw_mode])
        upper, lower = (np.asarray(part).astype(np.int32)[..., :3] for part in (image, again))
    return np.minimum(upper << 8 | lower, maxval or 65535), maxval


def _storage(image: ImageFile) -> tuple[str, int]:
    """Return Pillow's name for how pixels are stored, and what the header of PPM with more than 8 bits says of white.

    The name is empty for formats that have 8 bits only, the number 0 where no header says it.
    """
    if image.format not in ("PNG", "TIFF", "PPM"):
        return "", 0
    codec, _, _, arguments = cast(Any, image.tile[0])
    raw_mode = arguments if isinstance(arguments, str) else arguments[0]
    if image.format != "PPM":
        return raw_mode, 0
    maxval = arguments[-1] if codec.startswith("ppm") else 65535 if ";16" in raw_mode else 255
    if maxval <= 255:
        return raw_mode, 0
    return "RGB;16B" if (codec, raw_mode) == ("ppm", "RGB") else raw_mode, maxval


def _refuse_values_above_white(path: Path, image: ImageFile) -> None:
    """Raise where a binary PGM or PPM has values above its own maxval, which Pillow would clip without a word."""
    codec, _, offset, arguments = cast(Any, image.tile[0])
    if codec != "ppm":  # text files are checked by the decoder; a maxval of all bits cannot be left
        return
    maxval = arguments[-1]
    count = image.width * image.height * len(image.getbands())
    values = np.fromfile(path, ">u2" if maxval > 255 else np.uint8, count, offset=offset)
    highest = int(values.max(initial=0))
    if highest > maxval:
        raise ImageError(
            f"its header says that the largest value is {maxval}, and there is {highest}; correct one of them"
        )


def _load_as(image: ImageFile, raw_mode: str) -> None:
    """Load a picture as if its pixels were stored in another way."""
    tiles: Any = []
    for codec, box, offset, arguments in cast(Any, image.tile):
        if codec == "ppm":
            codec, arguments = "raw", (raw_mode, 0, 1)
        tiles.append((codec, box, offset, raw_mode if isinstance(arguments, str) else (raw_mode, *arguments[1:])))
    image.tile = tiles
    image.load()


def _tiff_size(image: TiffImageFile) -> tuple[int, int]:
    """Return width and height as stored; whether Pillow's own size is the turned one depends on its version."""
    return image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]


def _refuse_missing_strips(image: TiffImageFile) -> None:
    """Refuse a TIFF picture that is stored in part; Pillow would leave the rest black, without a word."""
    width, height = _tiff_size(image)
    right, bottom = (max(tile[1][side] for tile in cast(Any, image.tile)) for side in (2, 3))
    if right < width or bottom < height:
        raise ImageError(f"only {right} x {bottom} of its {width} x {height} pixels are stored")


def _is_16_bit(image: ImageFile) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _refuse_32_bit(image: ImageFile) -> None:
    if image.mode in ("I", "F") and not _is_16_bit(image):
        kind = "signed or 32-bit integer" if image.mode == "I" else "floating-point"
        raise ImageError(f"{kind} pixels have no agreed range; save the image with 8 or 16 bits")


def _eight_bit(image: Image.Image) -> Pixels:
    image.info.pop("transparency", None)  # a transparent colour would only make convert() warn
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # undo the premultiplied alpha before dropping it
    grey = image.mode in ("1", "L", "LA")
    return np.asarray(image.convert("L" if grey else "RGB"))


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF orientation: 5 to 8 swap the axes, the rest is mirroring."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
