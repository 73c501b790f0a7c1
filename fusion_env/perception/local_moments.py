"""Mean and variance around each pixel, from which both embedded networks start."""

import numpy as np
from torch import Tensor

from fusion_env.filters import filter_reflected, gaussian_window

__all__ = ["local_moments"]

# In single precision, as the embedded networks were trained. No tensor: see `student.large_pages`.
_WINDOW = tuple(np.array(gaussian_window(7, 7 / 6), np.float32).tolist())


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
    luma = luma.float()
    mean = filter_reflected(luma, _WINDOW)
    variance = filter_reflected(luma.square(), _WINDOW) - mean.square()
    return mean, variance.clamp_min(0)
