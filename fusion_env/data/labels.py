"""What the makers of a data set labelled in its images: boxes around objects, or a class for each pixel."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from fusion_env.data.images import read_size
from fusion_env.errors import DataError
from student.console import printable
from student.images import Pixels

__all__ = ["Box", "read_boxes", "read_mask"]

_MAX_BYTES = 1024 * 1024
_TOLERANCE = 1.0
"""Pixels by which a box may leave its image: VOC counts from 1, and YOLO rounds."""


@dataclass(frozen=True)
class Box:
    """Hold one labelled object.

    Attributes:
        label: Its class.
        left: Left edge in pixels, from the left border of the image.
        top: Upper edge, from the upper border.
        right: Right edge, more than `left`.
        bottom: Lower edge, more than `top`.
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(path: str | Path, size: tuple[int, int], classes: Sequence[str]) -> tuple[Box, ...]:
    """Read the boxes of one image.

    Args:
        path: A file of VOC (``.xml``: names of classes, corners in pixels) or of YOLO (``.txt``, a box a line: number
            of the class, then centre x and y, width and height as fractions of the image).
        size: Height and width of the image in pixels.
        classes: Names of the classes, in the order of YOLO's numbers. Case does not matter in VOC files.

    Returns:
        The boxes in the order of the file, cut at the borders of the image.

    Raises:
        DataError: If the file cannot be read, names another class, or holds a box without area or one that leaves the
            image by more than a pixel; names the file and the box.
    """
    path = Path(path)
    reader = {".xml": _read_voc, ".txt": _read_yolo}.get(path.suffix.lower())
    if reader is None:
        raise _error(path, "is neither VOC (.xml) nor YOLO (.txt)")
    boxes = reader(path, _text(path), size, classes)
    return tuple(_within(path, number, box, size) for number, box in enumerate(boxes, start=1))


def read_mask(path: str | Path, classes: Sequence[str]) -> Pixels:
    """Read the classes of the pixels of one image.

    Args:
        path: A grey or palette picture whose values are numbers of classes.
        classes: Names of the classes, in the order of these numbers.

    Returns:
        uint8 ``[H, W]``, numbers of classes.

    Raises:
        DataError: If the file cannot be read, holds colours, or a number without a class.
    """
    path = Path(path)
    read_size(path)  # names what is wrong with the header, and refuses what is too large
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise _error(path, f"holds colours ({image.mode}), not numbers of classes")
            mask = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise error if isinstance(error, DataError) else _error(path, f"cannot be read, {error}") from error
    if mask.max() >= len(classes):
        raise _error(path, f"holds the value {mask.max()}; the classes are 0 to {len(classes) - 1}")
    return mask


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _error(path, f"is larger than {_MAX_BYTES >> 20} MiB, which is no list of boxes")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(path, f"cannot be read as UTF-8 text, {error}") from error


def _read_voc(path: Path, text: str, size: tuple[int, int], classes: Sequence[str]) -> list[Box]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _error(path, f"is no XML, {error}") from error
    stated = root.find("size")
    if stated is not None:
        told = _numbers(path, "size", [stated.findtext(side) for side in ("height", "width")])
        if tuple(told) not in (size, (0, 0)):  # some tools leave the size at 0
            raise _error(path, f"is of an image of {told[0]:g} x {told[1]:g} pixels, not {size[0]} x {size[1]}")
    names = {name.casefold(): name for name in classes}
    boxes = []
    for number, item in enumerate(root.iter("object"), start=1):
        label = (item.findtext("name") or "").strip()
        if label.casefold() not in names:
            raise _error(path, f"object {number} is a {label!r}; the classes are {', '.join(classes)}")
        corners = [item.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(Box(names[label.casefold()], *_numbers(path, f"object {number}", corners)))
    return boxes


def _read_yolo(path: Path, text: str, size: tuple[int, int], classes: Sequence[str]) -> list[Box]:
    height, width = size
    boxes = []
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), start=1):
        parts = line.split()
        if len(parts) != 5:
            raise _error(path, f"object {number} has {len(parts)} numbers in place of 5 (class, x, y, width, height)")
        kind, x, y, wide, high = _numbers(path, f"object {number}", parts)
        if kind not in range(len(classes)):
            raise _error(path, f"object {number} is of class {kind:g}; the classes are 0 to {len(classes) - 1}")
        across, down = (x - wide / 2, x + wide / 2), (y - high / 2, y + high / 2)
        corners = (across[0] * width, down[0] * height, across[1] * width, down[1] * height)
        boxes.append(Box(classes[int(kind)], *corners))
    return boxes


def _numbers(path: Path, told: str, texts: Sequence[str | None]) -> list[float]:
    try:
        numbers = [float(text or "nothing") for text in texts]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise _error(path, f"{told} has {', '.join(map(repr, texts))} in place of numbers")
    return numbers


def _within(path: Path, number: int, box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    limit: Callable[[float, int], float] = lambda value, side: min(max(value, 0.0), float(side))  # noqa: E731
    cut = Box(
        box.label, limit(box.left, width), limit(box.top, height), limit(box.right, width), limit(box.bottom, height)
    )
    if not (cut.left < cut.right and cut.top < cut.bottom):
        raise _error(path, f"object {number} ({_corners(box)}) has no area within the image")
    beyond = max(-box.left, -box.top, box.right - width, box.bottom - height)
    if beyond > _TOLERANCE:
        raise _error(path, f"object {number} ({_corners(box)}) leaves the image of {height} x {width} pixels")
    return cut


def _corners(box: Box) -> str:
    return f"{box.label}: {box.left:g}, {box.top:g} to {box.right:g}, {box.bottom:g}"


def _error(path: Path, told: str) -> DataError:
    return DataError(printable(f"{path}: {told}"))
