"""Periodic patterns in fused images: what stands out of the spectrum where up-sampling leaves its mark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.weights.images import Image

__all__ = ["PERIODS", "pattern_amplitudes"]

PERIODS = (2, 4, 8)
"""In pixels: three doublings of the size can leave patterns of these."""
_NEAR, _FAR = 2, 6


def pattern_amplitudes(images: Sequence[Image]) -> dict[int, float]:
    """Measure regular patterns by the peaks that they make in the spectrum.

    The power spectra under a Hann window are averaged over the images. What the largest power within one bin of a
    frequency (j/p, k/p) has above the median of the bins two to six away, along the axis where it lies on one, is the
    power of a wave, and its amplitude is returned. Pictures without a pattern have some as well: compare with the
    sources.

    Args:
        images: Luma [H, W] of one size, H and W at least 64, 0..1.

    Returns:
        For each of `PERIODS` p the largest amplitude, in the images' unit, over all j and k that no shorter period has.

    Raises:
        ValueError: If the images are too small.
    """
    height, width = (side - side % max(PERIODS) for side in images[0].shape)  # so that each wave has a bin of its own
    if min(height, width) < 64:
        raise ValueError(f"height and width must be at least 64. Got {images[0].shape}.")
    window = np.outer(np.hanning(height), np.hanning(width))
    parts = [image[:height, :width] for image in images]
    power = np.mean([np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2 for part in parts], axis=0)
    amplitudes = {}
    for period in PERIODS:
        steps = range(period // 2 + 1)
        waves = [(j, k) for j in range(period) for k in steps if j % 2 or k % 2]
        amplitudes[period] = max(_amplitude(power, j / period, k / period) for j, k in waves) / window.sum()
    return amplitudes


def _amplitude(power: NDArray[np.float64], down: float, across: float) -> float:
    """Of a wave of so many cycles in a pixel, times the sum of the window."""
    height, width = power.shape
    row, column = round(down * height), round(across * width)
    near, far = np.arange(1 - _NEAR, _NEAR), np.arange(-_FAR, _FAR + 1)
    rows, columns = (far if cycles else far[_FAR : _FAR + 1] for cycles in (down, across))
    around = [(i, j) for i in rows for j in columns if max(abs(i), abs(j)) >= _NEAR]
    background = np.median([power[(row + i) % height, (column + j) % width] for i, j in around])
    peak = power[np.ix_((row + near) % height, (column + near) % width)].max()
    is_real = 2 * row % height == 0 and 2 * column % width == 0  # its own mirror image, where both halves meet
    return float((1 if is_real else 2) * np.sqrt(max(peak - background, 0)))
