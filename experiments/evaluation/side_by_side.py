"""Draw sources and fused images side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.evaluation.folders import ComparedImages
from experiments.output import save_figure, without_surrogates
from fusion_env.data import read_infrared, read_visible
from student.images import Pixels

__all__ = ["draw_grid", "draw_pictures"]

_WIDTH = 3.0  # inches of one picture
_TITLE, _MARGIN = 0.25, 0.3  # inches above the first row, left of the first column; more where text is larger
_GAP = 0.04
_DPI = 120
_FONT_POINTS, _LETTER_WIDTH = 9.5, 0.65  # of text, and of a letter as a part of that
_PRINT_WIDTH, _PRINT_POINTS = 7.0, 6.0  # inches across a printed page, and the size that text should have on it


def draw_grid(images: ComparedImages, names: Sequence[str], path: Path) -> None:
    """Draw infrared, visible and every method's fused image (in its own colours), one row for each pair.

    Args:
        images: Checked images.
        names: Pairs to show.
        path: PNG file.
    """
    titles = ("infrared", "visible", *images.methods)
    draw_pictures(titles, {name: _pictures(images, name) for name in names}, path)


def draw_pictures(titles: Sequence[str], rows: Mapping[str, Sequence[Pixels]], path: Path) -> None:
    """Draw rows of pictures side by side.

    Args:
        titles: Of the columns.
        rows: By title, a picture for each column, grey [H, W] or RGB [H, W, 3]; those of a row have one size.
        path: PNG file.
    """
    heights = [_WIDTH * pictures[0].shape[0] / pictures[0].shape[1] for pictures in rows.values()]
    columns = len(titles) * (_WIDTH + _GAP)
    points = max(_FONT_POINTS, _PRINT_POINTS * columns / _PRINT_WIDTH)
    top, margin = (strip * points / _FONT_POINTS for strip in (_TITLE, _MARGIN))
    width = margin + columns
    height = top + sum(heights) + _GAP * len(heights)
    figure = Figure(figsize=(width, height))
    bottom = height - top
    row_points = min(_fitting(name, tall, points) for name, tall in zip(rows, heights, strict=True))
    for (name, pictures), tall in zip(rows.items(), heights, strict=True):
        bottom -= tall + _GAP
        _label(figure, margin / 2 / width, (bottom + tall / 2) / height, name, row_points, rotation=90)
        for column, picture in enumerate(pictures):
            left = margin + column * (_WIDTH + _GAP)
            axis = figure.add_axes((left / width, bottom / height, _WIDTH / width, tall / height))
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            axis.set_axis_off()
    column_points = min(_fitting(title, _WIDTH, points) for title in titles)
    for column, title in enumerate(titles):
        centre = margin + column * (_WIDTH + _GAP) + _WIDTH / 2
        _label(figure, centre / width, 1 - top / 2 / height, title, column_points)
    save_figure(figure, path, _DPI)


def _fitting(text: str, space: float, points: float) -> float:
    """Return the size at which a text fits into `space` inches, at most `points`."""
    return min(points, space * 72 / (_LETTER_WIDTH * max(1, len(without_surrogates(text)))))


def _label(figure: Figure, x: float, y: float, text: str, points: float, rotation: float = 0) -> None:
    # A dollar sign in a name is no formula.
    told = without_surrogates(text)
    figure.text(x, y, told, ha="center", va="center", fontsize=points, rotation=rotation, parse_math=False)


def _pictures(images: ComparedImages, name: str) -> list[Pixels]:
    files = images.files[name]
    colours = [read_visible(path, images.scale) for path in (files.vis, *files.fused.values())]
    return [read_infrared(files.ir, images.scale), *colours]
