"""Value noise sampled in world coordinates, from one tile that all scenes share."""

import functools

import cv2
import numpy as np

__all__ = ["cover", "fbm", "sample"]

_CELLS = 64
_PIXELS_PER_CELL = 4
_TILE_SEED = 20250902


@functools.lru_cache(maxsize=1)
def _tile() -> np.ndarray:
    """Build the periodic noise tile: mean 0, standard deviation 1, one random knot every four pixels."""
    knots = np.random.default_rng(_TILE_SEED).standard_normal((_CELLS, _CELLS)).astype(np.float32)
    margin = 4
    padded = np.pad(knots, margin, mode="wrap")
    size = (_CELLS + 2 * margin) * _PIXELS_PER_CELL
    smooth = cv2.resize(padded, (size, size), interpolation=cv2.INTER_CUBIC)
    cut = margin * _PIXELS_PER_CELL
    tile = smooth[cut : cut + _CELLS * _PIXELS_PER_CELL, cut : cut + _CELLS * _PIXELS_PER_CELL]
    return (tile - tile.mean()) / tile.std()


def sample(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sample smooth noise (mean 0, std about 1, one knot per unit) at float32 coordinates of any range."""
    size = np.float32(_CELLS * _PIXELS_PER_CELL)
    x, y = u * np.float32(_PIXELS_PER_CELL), v * np.float32(_PIXELS_PER_CELL)
    x, y = x - size * np.floor(x / size), y - size * np.floor(y / size)
    return cv2.remap(_tile(), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def fbm(
    u: np.ndarray,
    v: np.ndarray,
    cell: float,
    octaves: int,
    footprint: np.ndarray | float = 0.0,
    gain: float = 0.6,
) -> np.ndarray:
    """Sum octaves of noise, fading those that are finer than a pixel.

    Args:
        u: Horizontal world coordinate in metres, float32, any shape [h, w].
        v: Vertical or forward world coordinate in metres, same shape.
        cell: Size of the coarsest feature in metres.
        octaves: Number of octaves, each half the size of the one before.
        footprint: Metres that one pixel covers; an octave whose cells are smaller vanishes instead of aliasing.
        gain: Amplitude of an octave relative to the one before.

    Returns:
        Noise with mean 0 and standard deviation about 1 where every octave is resolved.
    """
    total = np.zeros(np.broadcast_shapes(u.shape, v.shape), np.float32)
    power = 0.0
    for octave in range(octaves):
        size, amplitude = cell / 2**octave, gain**octave
        offset = np.float32(17.31 * octave)
        fade = np.clip(1.5 * size / (footprint + 1e-6) - 1.0, 0.0, 1.0)
        power += amplitude**2
        if not np.any(fade):
            continue
        layer = sample(u / np.float32(size) + offset, v / np.float32(size) - offset)
        layer *= np.float32(amplitude) * fade
        total += layer
    return total / np.float32(np.sqrt(power))


def cover(x: np.ndarray, low: float, high: float, footprint: np.ndarray | float) -> np.ndarray:
    """Share of a pixel of width ``footprint`` at ``x`` that lies between ``low`` and ``high`` (antialiased step)."""
    middle, half = (low + high) / 2, (high - low) / 2
    inverse = 1.0 / np.maximum(footprint, 1e-6)
    inside = (half - np.abs(x - middle)) * inverse
    inside += 0.5
    return np.clip(inside, 0.0, np.minimum(2 * half * inverse, 1.0))
