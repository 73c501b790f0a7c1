"""Metrics of structural similarity between a fused image and its sources."""

import torch
from torch import Tensor

from fusion_env.metrics.levels import check_images, to_levels
from fusion_env.metrics.windows import gaussian_window, local_moments, stack_rows_first

__all__ = ["ssim", "ssim_index", "ssim_pair"]

_WINDOW = gaussian_window(11, 1.5)
_K1, _K2 = 0.01, 0.03


@torch.no_grad()
def ssim(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Compute the structural similarity (SSIM) of fused images to both sources: ``SSIM(vis, F) + SSIM(ir, F)``.

    Higher is better; -2..2, and 2 only where both sources equal F. At least 11x11 pixels.

    Variants: half of this sum is also published as "SSIM". scikit-image's default (7x7 box window) and wrong data
    ranges (CDDFuse, IVIF_ZOO) give other numbers.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
        ir: Infrared images, same shape and dtype.
        vis: Luma of the visible images, same shape and dtype.

    Returns:
        ``[B]``; float32 is within 1e-5 of float64.
    """
    check_images(len(_WINDOW), fused=fused, ir=ir, vis=vis)
    return _ssim(stack_rows_first(to_levels(fused), to_levels(ir), to_levels(vis)), 255.0).sum(dim=0)


@torch.no_grad()
def ssim_pair(a: Tensor, b: Tensor) -> Tensor:
    """Compute the SSIM of two images on whole levels; symmetric, 1 for equal images.

    See `ssim_index` for the formula, `ssim` for the precision.

    Args:
        a: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1; at least 11x11 pixels.
        b: The other images, same shape and dtype.

    Returns:
        ``[B]`` in -1..1.
    """
    check_images(len(_WINDOW), a=a, b=b)
    return ssim_index(to_levels(a), to_levels(b), data_range=255.0)


def ssim_index(a: Tensor, b: Tensor, data_range: float = 1.0) -> Tensor:
    """Compute SSIM without rounding to levels, differentiably: the form to train with.

    Mean of ``(2 m_a m_b + C1)(2 s_ab + C2) / ((m_a^2 + m_b^2 + C1)(s_a^2 + s_b^2 + C2))`` with local moments under an
    11x11 Gaussian (sigma 1.5, no padding), ``C1 = (0.01 L)^2``, ``C2 = (0.03 L)^2``. Autocast is ignored.

    Source: Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE TIP 2004.

    Args:
        a: ``[B, 1, H, W]`` floats in 0..data_range; at least 11x11 pixels.
        b: The other images, same shape and dtype.
        data_range: L, the distance of the largest from the smallest possible value.

    Returns:
        ``[B]`` in -1..1, higher is more alike.
    """
    check_images(len(_WINDOW), a=a, b=b)
    return _ssim(stack_rows_first(a, b), data_range)[0]


def _ssim(images: Tensor, data_range: float) -> Tensor:
    """Compute SSIM of ``images[:, 0]`` with each of the others: ``[H, 1 + S, B, W]`` -> ``[S, B]``."""
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    # Variances do not depend on the mean, but float32 keeps two more digits of them without it.
    centre = images.detach().mean(dim=(0, 3), keepdim=True)
    moments = local_moments(images - centre, _WINDOW)
    mean, other_means = moments.mean + centre[:, :1], moments.other_means + centre[:, 1:]
    luminance = (2 * mean * other_means + c1) / (mean.square() + other_means.square() + c1)
    structure = (2 * moments.covariances + c2) / (moments.variance + moments.other_variances + c2)
    return (luminance * structure).mean(dim=(0, 3))
