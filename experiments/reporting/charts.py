"""Curves and colour strips in HTML and SVG: the shapes stretch with the page, the text does not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

__all__ = ["Cell", "Curve", "colour_legend", "line_chart", "strip"]

_COLOURS = colormaps["viridis"]
_SIDE = 1000


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Attributes:
        label: Its name.
        values: One per round; there are gaps where they are not finite.
        colour: Number of its colour.
        dashed: Whether it is dashed.
    """

    label: str
    values: Sequence[float]
    colour: int
    dashed: bool = False


def line_chart(title: str, note: str, curves: Sequence[Curve], marks: Sequence[int] = ()) -> str:
    """Draw curves over the rounds; the empty string where no value is finite.

    Args:
        title: What is drawn.
        note: A few words more.
        curves: The curves.
        marks: Rounds before which a thin vertical line stands.
    """
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    if not finite:
        return ""
    ticks = MaxNLocator(nbins=4).tick_values(min(finite), max(finite))
    low, high = ticks[0], ticks[-1]
    rounds = max(len(curve.values) for curve in curves)

    def x(at: float) -> float:
        return round(_SIDE * at / max(rounds - 1, 1), 1)

    def y(value: float) -> float:
        return round(_SIDE * (high - value) / (high - low), 1)

    def path(values: Sequence[float]) -> str:
        points = []
        for known, group in groupby(enumerate(values), lambda entry: math.isfinite(entry[1])):
            if known:
                run = [f"{x(at)} {y(value)}" for at, value in group]
                points.append("M" + "L".join(run if len(run) > 1 else run * 2))  # a single round is a dot
        return "".join(points)

    shapes = [f'<path class="grid" d="M0 {y(tick)}H{_SIDE}"/>' for tick in ticks]
    shapes += [f'<path class="mark" d="M{x(at - 0.5)} 0V{_SIDE}"/>' for at in marks]
    shapes += [f'<path {_look(curve)} d="{path(curve.values)}"/>' for curve in curves]
    labels = "".join(f'<span style="top:{y(tick) / 10:g}%">{_number(tick)}</span>' for tick in ticks)
    legend = "".join(
        f'<li><svg viewBox="0 0 24 8" aria-hidden="true">'
        f'<path {_look(curve)} d="M0 4H24"/></svg>{escape(curve.label)}</li>'
        for curve in curves
    )
    spoken = "; ".join(f"{curve.label}: {_course(curve.values)}" for curve in curves)
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> <span>{escape(note)}</span></figcaption>'
        f'<div class="plot"><div class="y" aria-hidden="true">{labels}</div>'
        f'<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}. {escape(spoken)}">{"".join(shapes)}</svg>'
        f'<div class="x" aria-hidden="true"><span>1</span><span>round</span><span>{rounds}</span></div></div>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _look(curve: Curve) -> str:
    """Return the attributes of a curve; the style sheet has the first colours, and makes more from the number."""
    return f'class="curve c{curve.colour}{" dashed" * curve.dashed}" style="--number:{curve.colour}"'


def _course(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "no finite value"
    return (
        f"from {_number(finite[0])} to {_number(finite[-1])}, {_number(min(finite))} to {_number(max(finite))} in all"
    )


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Cell:
    """What a strip shows of one round.

    Attributes:
        share: 0..1, the colour.
        text: The value, for people.
    """

    share: float
    text: str


def strip(label: str, cells: Sequence[Cell]) -> str:
    """Draw one quantity over the rounds as a row of colours; equal rounds in a row are one cell."""
    shapes = "".join(
        f'<rect x="{first}" width="{count}" height="1" fill="{_colour(cell.share)}">'
        f"<title>{escape(label)}, {_rounds(first + 1, count)}: {escape(cell.text)}</title></rect>"
        for first, count, cell in _stretches(cells)
    )
    spoken = f"{label}: {_course([cell.share for cell in cells])}, as shares of its range"
    return (
        f'<span class="name">{escape(label)}</span>'
        f'<svg class="strip" viewBox="0 0 {len(cells)} 1" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'role="img" aria-label="{escape(spoken)}">{shapes}</svg>'
    )


def _stretches(cells: Sequence[Cell]) -> Iterator[tuple[int, int, Cell]]:
    first = 0
    for cell, group in groupby(cells):
        count = len(list(group))
        yield first, count, cell
        first += count


def _rounds(first: int, count: int) -> str:
    return f"round {first}" if count == 1 else f"rounds {first} to {first + count - 1}"


def _colour(share: float) -> str:
    return to_hex(_COLOURS(share)) if math.isfinite(share) else "none"


def colour_legend(least: str, most: str) -> str:
    """Draw the colours of the strips between what their ends mean."""
    stops = ",".join(_colour(number / 8) for number in range(9))
    return (
        f'<p class="colours">{escape(least)}<span style="background:linear-gradient(90deg,{stops})"></span>'
        f"{escape(most)}</p>"
    )
