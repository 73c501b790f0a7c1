"""Pairs of abstract pictures with the local statistics of real ones: occluding shapes, rough surfaces, lettering.

They are no scenes, and are not meant to look like any. A fusion network's work is local; what it needs from its
training images is every combination of edges, textures, smooth shading and empty areas, in one picture or in both.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.weights.images import Image

__all__ = ["draw_texture_pair", "random_field"]

_LETTERS = "ABCDEFGHKLMNPRSTUVXYZ0123456789"
_MAX_CORNERS = 8


@dataclass(frozen=True)
class _Surfaces:
    """What the shapes of a pair are made of.

    Attributes:
        fields: Two rough surfaces of the pictures' size, mean 0, standard deviation 1.
        spread: Range of the shapes' tones.
        agreement: How far the two pictures' tones agree, 1, or are opposite, -1.
        roughness: Largest amplitude of a surface, for each picture.
        in_one: Probability of a shape in one of the pictures only.
    """

    fields: tuple[Image, Image]
    spread: float
    agreement: float
    roughness: tuple[float, float]
    in_one: float


def random_field(rng: np.random.Generator, height: int, width: int, exponent: float) -> Image:
    """Draw a Gaussian field with amplitudes falling as frequency to the power of ``-exponent``; mean 0, deviation 1."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * frequency**-exponent
    field = np.fft.irfft2(spectrum, (height, width))
    return (field / field.std()).astype(np.float32)


def draw_texture_pair(rng: np.random.Generator, height: int, width: int) -> tuple[Image, Image]:
    """Draw infrared and visible pictures, float32 [H, W], roughly 0..1."""
    fields = tuple(random_field(rng, height, width, rng.uniform(0.2, 1.8)) for _ in range(2))
    surfaces = _Surfaces(
        fields=(fields[0], fields[1]),
        spread=float(rng.uniform(0.2, 1)),
        agreement=float(rng.uniform(-1, 1)),
        roughness=(float(rng.uniform(0, 0.12)), float(rng.uniform(0, 0.25))),
        in_one=float(rng.uniform(0, 0.6)),
    )
    pictures = [0.5 + rng.uniform(0, 0.3) * random_field(rng, height, width, rng.uniform(1.5, 2.5)) for _ in range(2)]
    extent = min(height, width)
    smallest, largest, slope = rng.uniform(1.5, 5), rng.uniform(0.2, 0.7) * extent, rng.uniform(0.8, 2.2)
    count = int(rng.uniform(20, 60) * (height * width) ** 0.5 / 16 * rng.uniform(0.2, 1))
    # Radii by a power law, as the occluding objects of natural pictures; large ones first, so that small ones are seen.
    shares = rng.random(count)
    radii = (smallest**-slope + shares * (largest**-slope - smallest**-slope)) ** (-1 / slope)
    if rng.random() < 0.7:
        radii = np.sort(radii)[::-1]
    for radius in radii.tolist():
        _paint_shape(pictures, surfaces, radius, rng)
    for picture in pictures:
        if rng.random() < 0.4:
            picture *= 1 + rng.uniform(0.1, 0.5) * np.tanh(random_field(rng, height, width, 2.5))
    return pictures[0], pictures[1]


def _paint_shape(pictures: list[Image], surfaces: _Surfaces, radius: float, rng: np.random.Generator) -> None:
    """Paint one shape of about this radius into both pictures, or into one."""
    height, width = pictures[0].shape
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    reach = 2.2 * radius + 2
    left, right = max(int(x - reach), 0), min(int(x + reach) + 1, width)
    top, bottom = max(int(y - reach), 0), min(int(y + reach) + 1, height)
    cover = _cover(rng, bottom - top, right - left, (x - left, y - top), radius)
    part = slice(top, bottom), slice(left, right)
    ir_tone, vis_tone = rng.uniform(-0.5, 0.5, 2) * surfaces.spread
    ir_tone = (1 - abs(surfaces.agreement)) * ir_tone + surfaces.agreement * vis_tone
    tones = 0.5 + ir_tone, 0.5 + vis_tone
    chosen = (0, 1) if rng.random() > surfaces.in_one else (int(rng.integers(2)),)
    shared = rng.random() < 0.5
    for index in chosen:
        surface = surfaces.fields[0 if shared else index][part]
        paint = tones[index] + rng.uniform(-1, 1) * surfaces.roughness[index] * surface
        if rng.random() < 0.4:
            paint = paint + _ramp(rng, *cover.shape)
        if radius > 6 and rng.random() < 0.15:
            paint = paint + _stripes(rng, *cover.shape)
        pictures[index][part] += cover * (paint - pictures[index][part])


def _cover(rng: np.random.Generator, height: int, width: int, centre: tuple[float, float], radius: float) -> Image:
    """Draw the coverage 0..1 of a shape: polygon, ellipse, bar, frame or letters."""
    mask = np.zeros((height, width), np.uint8)
    kind, turn = rng.random(), rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        turn = float(rng.integers(4)) * np.pi / 2
    if kind < 0.3:
        axes = (max(int(16 * radius * rng.uniform(0.4, 1.3)), 8), max(int(16 * radius * rng.uniform(0.3, 1)), 8))
        at = (int(16 * centre[0]), int(16 * centre[1]))
        cv2.ellipse(mask, at, axes, float(np.degrees(turn)), 0, 360, 255, -1, cv2.LINE_AA, 4)
    elif kind < 0.36 and radius > 3:
        text = "".join(rng.choice(list(_LETTERS), int(rng.integers(1, 6))))
        at = (int(centre[0] - radius), int(centre[1] + radius / 2))
        cv2.putText(mask, text, at, int(rng.integers(8)), radius / 20, 255, max(int(radius / 8), 1), cv2.LINE_AA)
    else:
        outline = _outline(rng, kind, radius) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        points = np.round(16 * (outline + centre)).astype(np.int32)
        if kind > 0.9:
            cv2.polylines(mask, [points], True, 255, int(rng.integers(1, 4)), cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / np.float32(255)


def _outline(rng: np.random.Generator, kind: float, radius: float) -> NDArray[np.float64]:
    """Draw corners around the origin: a rectangle, a thin bar, or a polygon."""
    if kind < 0.75:
        long, short = radius * rng.uniform(0.5, 1.4), radius * rng.uniform(0.3, 1)
        if kind < 0.5:
            long, short = 1.9 * radius, rng.uniform(0.4, 1.6)
        return np.array([[-long, -short], [long, -short], [long, short], [-long, short]])
    corners = int(rng.integers(3, _MAX_CORNERS + 1))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.5, 1.4, corners)
    return np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1)


def _ramp(rng: np.random.Generator, height: int, width: int) -> Image:
    """Draw a linear change of tone."""
    across, down = rng.uniform(-0.4, 0.4, 2)
    ramp = across * np.linspace(-0.5, 0.5, width)[None] + down * np.linspace(-0.5, 0.5, height)[:, None]
    return np.asarray(ramp, np.float32)


def _stripes(rng: np.random.Generator, height: int, width: int) -> Image:
    """Draw bars or a grid, such as windows, fences and tiles have."""
    period, duty, depth = rng.uniform(3, 16), rng.uniform(0.2, 0.8), rng.uniform(-0.5, 0.5)
    columns = ((np.arange(width) / period) % 1 < duty)[None]
    if rng.random() < 0.5:
        columns = columns & ((np.arange(height) / (period * rng.uniform(0.6, 2))) % 1 < duty)[:, None]
    return np.broadcast_to(depth * columns, (height, width)).astype(np.float32)
