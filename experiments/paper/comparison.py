"""Pictures of a comparison: sources and fused images side by side, with details enlarged beneath."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from experiments.evaluation.side_by_side import draw_pictures
from experiments.output import write_text
from experiments.paper.fused import Shown
from experiments.paper.methods import Method
from experiments.paper.order import Order
from experiments.paper.page import head
from fusion_env.data import ImagePair, luma_levels
from student.console import printable
from student.images import Pixels

__all__ = ["Box", "draw_comparison", "make_comparison", "salient_boxes", "with_details"]

COLOURS = ((230, 30, 30), (40, 220, 60))
"""Of the first and the second box."""
SHARE = 0.18
"""Side of a box, as a share of the image's shorter side."""
_STEP = 4
_FRAME = 0.006
"""Width of a frame, as a share of the image's width."""


class Box(NamedTuple):
    """A square detail of an image, in pixels."""

    top: int
    left: int
    side: int


def draw_comparison(shown: Sequence[Shown], methods: Sequence[Method], path: Path) -> None:
    """Draw one row for each pair: infrared, visible, and every method, with the details of `salient_boxes`.

    Args:
        shown: Sets, and the index of a pair of each.
        methods: What fuses.
        path: PNG file.
    """
    rows = {}
    for one, index in shown:
        pair = one.pair(index)
        boxes = salient_boxes(pair)
        images = [pair.ir.expand(3, -1, -1), pair.vis, *(method.fuse(one.name, pair) for method in methods)]
        rows[f"{one.name} {pair.name}"] = [with_details(image, boxes) for image in images]
    draw_pictures(("infrared", "visible", *(method.name for method in methods)), rows, path)


def make_comparison(
    order: Order, name: str, title: str, shown: Sequence[Shown], methods: Sequence[Method], text: str
) -> Path:
    """Write picture and page of some pairs and methods.

    Args:
        order: What was ordered.
        name: Of the folder, the picture and the page.
        title: Of the page.
        shown: The pairs.
        methods: The methods.
        text: What the reader must know.

    Returns:
        The page.
    """
    folder = order.folder(name)
    draw_comparison(shown, methods, folder / f"{name}.png")
    origins = "\n".join(f"- {method.name}: {printable(method.origin)}" for method in methods)
    boxes = (
        "The framed details are enlarged beneath each picture. They are chosen by the sources alone: red where the "
        "infrared image varies most, green where the visible one does beside it."
    )
    parts = [*head(title, order.command), text, boxes, f"![{title}]({name}.png)", origins, ""]
    write_text(folder / f"{name}.md", "\n\n".join(parts))
    return folder / f"{name}.md"


def salient_boxes(pair: ImagePair) -> tuple[Box, Box]:
    """Choose two details by the sources alone, so that no method's strong or weak places are picked.

    The first is the square in which the infrared image varies most, the second that of the visible image, beside the
    first. Variation is the standard deviation of the levels.
    """
    height, width = pair.ir.shape[1:]
    side = max(_STEP, round(SHARE * min(height, width)))
    deviations = [_deviation(image, side) for image in (pair.ir, luma_levels(pair.vis))]
    first = _highest(deviations[0])
    deviations[1][_overlapping(first, side)] = -1
    return Box(*first, side), Box(*_highest(deviations[1]), side)


def _deviation(image: Tensor, side: int) -> Tensor:
    """Return the standard deviation in every square, on a grid of `_STEP` pixels."""
    levels = image[None].double()
    mean, square = (avg_pool2d(values, side, _STEP) for values in (levels, levels**2))
    return (square - mean**2)[0, 0].clamp(min=0).sqrt()


def _highest(values: Tensor) -> tuple[int, int]:
    row, column = divmod(int(values.argmax()), values.shape[1])
    return row * _STEP, column * _STEP


def _overlapping(place: tuple[int, int], side: int) -> tuple[slice, slice]:
    """Return the squares of the grid that overlap with one."""
    reach = side // _STEP
    row, column = (start // _STEP for start in place)
    return slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1)


def with_details(image: Tensor, boxes: Sequence[Box]) -> Pixels:
    """Return an image, uint8 [3, H, W], with framed boxes, and beneath it what is in them, enlarged: [H', W, 3]."""
    width = image.shape[2]
    frame = max(1, round(_FRAME * width))
    picture, side = image.clone(), width // len(boxes)
    details = []
    for box, colour in zip(boxes, COLOURS, strict=False):
        crop = image[:, box.top : box.top + box.side, box.left : box.left + box.side]
        large = interpolate(crop[None].float(), size=(side, side), mode="nearest-exact")[0].to(torch.uint8)
        details.append(_framed(large, Box(0, 0, side), colour, frame))
        picture = _framed(picture, box, colour, frame)
    beneath = torch.zeros(3, side, width, dtype=torch.uint8)
    beneath[:, :, : side * len(details)] = torch.cat(details, dim=2)
    return np.ascontiguousarray(torch.cat([picture, beneath], dim=1).permute(1, 2, 0).numpy())


def _framed(image: Tensor, box: Box, colour: tuple[int, int, int], width: int) -> Tensor:
    framed = image.clone()
    square = framed[:, box.top : box.top + box.side, box.left : box.left + box.side]
    inside = square[:, width:-width, width:-width].clone()
    square[:] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    square[:, width:-width, width:-width] = inside
    return framed
