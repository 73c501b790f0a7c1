"""A picture of what a detector sees: a wrong path, class or order of colours shows here first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.output import save_figure
from student.images import Pixels

__all__ = ["Seen", "draw_seen"]

Corners = tuple[str, float, float, float, float]
"""Class, left, top, right, bottom."""

_COLOURS = ("tab:red", "tab:cyan", "tab:orange", "tab:green", "tab:pink", "tab:olive")
_INCHES = 3.2


@dataclass(frozen=True)
class Seen:
    """An image as it reaches a detector.

    Attributes:
        name: Of its file.
        image: RGB levels, uint8 [H, W, 3].
        labelled: Its boxes.
        found: The detector's.
    """

    name: str
    image: Pixels
    labelled: Sequence[Corners]
    found: Sequence[Corners]


def draw_seen(images: Sequence[Seen], path: Path) -> None:
    """Draw images with their boxes in the first row and with those that were found in the second."""
    figure = Figure(figsize=(_INCHES * len(images), 2 * _INCHES), layout="constrained")
    kinds = sorted({box[0] for seen in images for box in (*seen.labelled, *seen.found)})
    colours = {kind: _COLOURS[place % len(_COLOURS)] for place, kind in enumerate(kinds)}
    for column, axes in zip(images, figure.subplots(2, len(images), squeeze=False).T, strict=True):
        _draw(axes[0], column, column.labelled, colours, f"{column.name}: labelled")
        _draw(axes[1], column, column.found, colours, "found")
    handles = [Rectangle((0, 0), 1, 1, fill=False, color=colour) for colour in colours.values()]
    if handles:
        figure.legend(handles, colours, loc="outside lower center", ncols=len(handles), frameon=False)
    save_figure(figure, path)


def _draw(axes: Axes, seen: Seen, boxes: Sequence[Corners], colours: dict[str, str], title: str) -> None:
    axes.imshow(seen.image)
    axes.set_title(title, fontsize="small")
    axes.axis("off")
    for kind, left, top, right, bottom in boxes:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=colours[kind]))
