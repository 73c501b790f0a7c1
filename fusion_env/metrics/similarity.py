"""Metrics of structural similarity between a fused image and its sources."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_env.filters import gaussian_window, local_moments, stack_rows_first, strips
from fusion_env.metrics.images import Images
from fusion_env.metrics.levels import check_images, to_levels
from fusion_env.metrics.registry import metric

__all__ = ["ms_ssim", "ssim", "ssim_index", "ssim_pair"]

_WINDOW = gaussian_window(11, 1.5)
_K1, _K2 = 0.01, 0.03
_MS_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@metric(
    needs_sources=True,
    minimum_size=len(_WINDOW),
    summary="SSIM (11x11 Gaussian window), summed over the sources",
    range="-2..2",
)
def ssim(images: Images) -> Tensor:
    """Compute the structural similarity (SSIM) of fused images to both sources: ``SSIM(vis, F) + SSIM(ir, F)``.

    Higher is better; -2..2, and 2 only where both sources equal F. The order of the sources does not matter. At
    least 11x11 pixels.

    Variants: half of this sum is also published as "SSIM". scikit-image's default (7x7 box window) and wrong data
    ranges (CDDFuse, IVIF_ZOO) give other numbers.

    Returns:
        ``[B]``; float32 is within 1e-5 of float64.
    """
    return images.once(_first_scale).whole.sum(dim=0)


@metric(
    needs_sources=True,
    minimum_size=len(_WINDOW) * 2 ** (len(_MS_POWERS) - 1),
    summary="MS-SSIM (Wang 2003, 5 scales), summed over the sources",
    range="0..2",
)
def ms_ssim(images: Images) -> Tensor:
    """Compute the multi-scale structural similarity (MS-SSIM) of fused images to both sources, summed.

    For one source, the product of the mean contrast-structure term ``(2 s_SF + C2) / (s_S^2 + s_F^2 + C2)`` on four
    scales and of the mean SSIM on the fifth, to the powers 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; window and constants
    as in `ssim_index`. From scale to scale, 2x2 pixels are averaged; an odd last row or column is dropped. A negative
    mean counts as 0. Higher is better; 0..2, and 2 only where both sources equal F. The order of the sources does not
    matter. At least 176x176 pixels.

    Source: Wang, Simoncelli & Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003;
    torchmetrics does the same, piq and the authors differ in how they halve odd sizes. Variants: half of this sum; and
    MEF-SSIM, the 3-level metric of Ma, Zeng & Wang (IEEE TIP 2015) that the SeAFusion family reports as "MS-SSIM": the
    two are not comparable.

    Returns:
        ``[B]``; float32 is within 1e-5 of float64.
    """
    similarity = images.once(_first_scale)
    levels: tuple[Tensor, ...] = (images.fused, images.ir, images.vis)
    product: Tensor | float = 1.0
    for power in _MS_POWERS[:-1]:
        product = product * similarity.structure.clamp(min=0.0) ** power
        levels = tuple(F.avg_pool2d(image, 2) for image in levels)
        similarity = _similarity(stack_rows_first(*levels), 255.0)
    return (product * similarity.whole.clamp(min=0.0) ** _MS_POWERS[-1]).sum(dim=0)


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
    return _similarity(stack_rows_first(a, b), data_range).whole[0]


class _Similarity(NamedTuple):
    """Means over the pixels of one scale, ``[S, B]`` for S sources."""

    whole: Tensor
    """SSIM."""
    structure: Tensor
    """Its second factor, which compares contrast and structure."""


def _first_scale(images: Images) -> _Similarity:
    return _similarity(stack_rows_first(images.fused, images.ir, images.vis), 255.0)


def _similarity(images: Tensor, data_range: float) -> _Similarity:
    """Compare ``images[:, 0]`` with each of the others: ``[H, 1 + S, B, W]``."""
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    # Variances do not depend on the mean, but float32 keeps two more digits of them without it.
    centre = images.detach().mean(dim=(0, 3), keepdim=True)
    whole = structure = images.new_zeros(())
    for strip in strips(images - centre, _WINDOW):
        moments = local_moments(strip, _WINDOW)
        mean, other_means = moments.mean + centre[:, :1], moments.other_means + centre[:, 1:]
        luminance = (2 * mean * other_means + c1) / (mean.square() + other_means.square() + c1)
        likeness = (2 * moments.covariances + c2) / (moments.variance + moments.other_variances + c2)
        whole = whole + (luminance * likeness).sum(dim=(0, 3))
        structure = structure + likeness.sum(dim=(0, 3))
    pixels = (images.shape[0] - len(_WINDOW) + 1) * (images.shape[3] - len(_WINDOW) + 1)
    return _Similarity(whole / pixels, structure / pixels)
