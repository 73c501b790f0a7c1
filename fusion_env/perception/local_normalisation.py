"""Local mean and variance of images, the fixed first step of both embedded networks."""

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["local_moments"]

_SIGMA_PX = 7 / 6
_RADIUS_PX = 3


def local_moments(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance around each pixel.

    The window is the Gaussian of natural scene statistics (Mittal et al., "No-reference image quality assessment in the
    spatial domain", 2012): 7x7 pixels, standard deviation 7/6 px, border reflected. Computed in float32 even under
    autocast, for the variance is a difference of nearly equal numbers. Differentiable.

    Args:
        luma: [B, 1, H, W] in 0..1, H and W at least 4.

    Returns:
        Mean and variance, [B, 1, H, W] each; the variance is not negative.
    """
    with torch.autocast(luma.device.type, enabled=False):
        luma = luma.float()
        rows = _window_matrix(luma.shape[-2], luma.device)
        columns = _window_matrix(luma.shape[-1], luma.device).T
        # Two products with banded matrices: one-channel convolutions are several times slower on a CPU.
        mean = rows @ (luma @ columns)
        variance = rows @ (luma.square() @ columns) - mean.square()
    return mean, variance.clamp_min(0)


@lru_cache(maxsize=64)
def _window_matrix(size: int, device: torch.device) -> Tensor:
    """Return the [size, size] matrix that averages a line of pixels with reflected border."""
    if size <= _RADIUS_PX:
        raise ValueError(f"Height and width must be at least {_RADIUS_PX + 1} pixels. Got {size}.")
    offsets = range(-_RADIUS_PX, _RADIUS_PX + 1)
    weights = [math.exp(-(offset**2) / (2 * _SIGMA_PX**2)) for offset in offsets]
    matrix = torch.zeros(size, size, dtype=torch.float64)
    pixels = torch.arange(size)
    for offset, weight in zip(offsets, weights, strict=True):
        reflected = (size - 1) - ((size - 1) - (pixels + offset).abs()).abs()
        matrix[pixels, reflected] += weight / sum(weights)
    return matrix.float().to(device)
