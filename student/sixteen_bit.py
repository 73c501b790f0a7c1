"""From 16-bit values to 8-bit levels: which value is white, and where nobody but the user can tell.

Cameras store 10, 12 or 14 bits, or raw counts, in files of 16. Taken for the whole range, such a picture is nearly
black or flat. White is therefore, in this order: what the user says; what the file says (`stated_white`); 65535,
unless the picture would then keep only a few of its levels, which is refused.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from student.errors import ImageError

__all__ = ["BIT_DEPTHS", "Counts", "Scale", "add_scale_options", "stated_white", "to_levels", "to_unit"]

Counts = NDArray[np.int32]

BIT_DEPTHS = range(8, 17)
"""What a user can say that the values of a 16-bit file use."""

_WHITE = 65535
_PERCENTILES = (0.1, 99.9)
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 258, 281, 341


@dataclass(frozen=True)
class Scale:
    """How the values of 16-bit pictures become levels; 8-bit pictures are as they are.

    Attributes:
        bit_depth: How many bits the values use, 8 to 16; None for what each file says or shows.
        stretch: Stretch each picture from its 0.1 to its 99.9 percentile. Equal values of two pictures then have
            different levels.

    Raises:
        ValueError: The bit depth is out of range, or both are given.
    """

    bit_depth: int | None = None
    stretch: bool = False

    def __post_init__(self) -> None:
        if self.bit_depth is not None and self.bit_depth not in BIT_DEPTHS:
            raise ValueError(f"bit_depth must be 8 to 16. Got {self.bit_depth}")
        if self.bit_depth is not None and self.stretch:
            raise ValueError("bit_depth and stretch exclude each other: stretching finds each picture's own range")

    def describe(self) -> str:
        """Say what is done to 16-bit pictures; empty where that is the default."""
        if self.stretch:
            low, high = _PERCENTILES
            return f"16-bit pictures stretched, each from its {low} to its {high} percentile"
        return "" if self.bit_depth is None else f"16-bit pictures read as {self.bit_depth}-bit values"


def add_scale_options(options: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add ``--bit-depth`` and ``--stretch`` to a command, or to a group of its options."""
    group = options.add_mutually_exclusive_group()
    text = "bits that the values of 16-bit files use, 8 to 16 (default: what each file says or shows)"
    group.add_argument("--bit-depth", type=int, choices=BIT_DEPTHS, metavar="N", help=text)
    text = "stretch each 16-bit picture from its 0.1 to its 99.9 percentile"
    group.add_argument("--stretch", action="store_true", help=text)


def stated_white(path: Path, image: ImageFile, counts: Counts) -> int:
    """Return the largest value that a picture can have, as far as its file says so without doubt; else 65535.

    Args:
        path: The file.
        image: The same, opened.
        counts: Its values.
    """
    white = _WHITE
    if image.format == "PNG":
        bits = _significant_bits(path)
        # By the standard such values fill the 16 bits from above; then the low bits of each are 0, or its rounding.
        if bits is not None and (counts % 2 ** (16 - bits) > 1).any():
            white = 2**bits - 1
    elif isinstance(image, TiffImageFile):
        white = _tiff_white(image)
    return white if counts.max() <= white else _WHITE


def _significant_bits(path: Path) -> int | None:
    """Return what the sBIT chunk of a PNG file says; Pillow skips it."""
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"sBIT":
                bits = max(stream.read(min(length, 3)), default=0)
                return bits if bits in BIT_DEPTHS else None
            stream.seek(length + 4, 1)
    return None


def _tiff_white(image: TiffImageFile) -> int:
    bits = max(_values(image.tag_v2.get(_BITS_PER_SAMPLE)), default=16)
    if bits < 16:  # packed
        return 2**bits - 1
    # Some writers store the largest value of the picture here. Only one of whole bits is what the camera can give.
    told = [value for tag in (_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE) for value in _values(image.tag_v2.get(tag))]
    largest = max(told, default=_WHITE)
    return largest if largest in {2**bits - 1 for bits in BIT_DEPTHS} else _WHITE


def _values(tag: object) -> Sequence[int]:
    values = tag if isinstance(tag, tuple) else (tag,)
    return [int(value) for value in values if isinstance(value, (int, float)) and value in range(1, _WHITE + 1)]


def to_levels(counts: Counts, white: int, scale: Scale) -> NDArray[np.uint8]:
    """Turn values into levels, rounded half up.

    Args:
        counts: Values of any shape, 0..65535.
        white: What the file says that becomes 255; 65535 if nothing.
        scale: What the user says, which comes first.

    Raises:
        ImageError: Values exceed the user's bit depth; or the user says nothing, and they span (all but 0.1 % at each
            end) at most a quarter of the range and are no widened 8-bit levels, so that few levels would be left.
    """
    if scale.stretch:
        return np.floor(_stretched(counts) * 255 + 0.5).astype(np.uint8)
    return _levels(counts, _checked_white(counts, white, scale))


def to_unit(counts: Counts, white: int, scale: Scale) -> NDArray[np.float32]:
    """Turn values into 0..1 without rounding them to levels; arguments and errors are those of `to_levels`."""
    if scale.stretch:
        return _stretched(counts).astype(np.float32)
    return counts.astype(np.float32) / np.float32(_checked_white(counts, white, scale))


def _checked_white(counts: Counts, white: int, scale: Scale) -> int:
    """Return the value that becomes white, after a look whether the picture agrees."""
    if scale.bit_depth is not None:
        white = 2**scale.bit_depth - 1
        _refuse_beyond(counts, white)
    elif not _widened(counts, _levels(counts, white), white):
        _refuse_few_levels(counts, white)
    return white


def _levels(counts: Counts, white: int) -> NDArray[np.uint8]:
    return ((counts * 510 + white) // (2 * white)).astype(np.uint8)


def _stretched(counts: Counts) -> NDArray[np.float64]:
    dark, bright = np.percentile(counts, _PERCENTILES)
    if dark == bright:
        dark, bright = counts.min(), max(counts.max(), counts.min() + 1)
    return np.clip((counts - dark) / (bright - dark), 0, 1)


def _refuse_beyond(counts: Counts, white: int) -> None:
    low, high = int(counts.min()), int(counts.max())
    if high > white:
        raise ImageError(
            f"16-bit values span {low} to {high}, but bit_depth={white.bit_length()} ends at {white}: set bit_depth to "
            f"{high.bit_length()} or more, or stretch"
        )


def _refuse_few_levels(counts: Counts, white: int) -> None:
    # Without both ends, as a few dead pixels make no picture of many levels.
    low = int(np.percentile(counts, _PERCENTILES[0], method="lower"))
    high = int(np.percentile(counts, _PERCENTILES[1], method="higher"))
    if high - low <= white // 4:
        raise ImageError(
            f"16-bit values span only {low} to {high} of 0 to {white}, which leaves few levels: set bit_depth "
            f"({max(high.bit_length(), 8)} or more; {white.bit_length()} if the picture is that dark or flat) or "
            "stretch, or convert it to 8 bits with one range for all images"
        )


def _widened(counts: Counts, levels: NDArray[np.uint8], white: int) -> bool:
    """Tell whether values are 8-bit levels made wider, by a factor or a shift, so that nothing is lost."""
    back = (levels.astype(np.int32) * 2 * white + 255) // 510
    return bool((back == counts).all() or not (counts % ((white + 1) // 256)).any())
