"""Metrics made of sums over whole images: Pearson correlations and the peak signal-to-noise ratio."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from fusion_env.metrics.images import Images
from fusion_env.metrics.registry import metric

__all__ = ["cc", "psnr", "scd"]


@metric(
    needs_sources=True,
    minimum_size=1,
    summary="mean Pearson correlation with the two sources",
    range="-1..1",
)
def cc(images: Images) -> Tensor:
    """Compute the correlation coefficient (CC) of fused images with their sources.

    ``(corr(A, F) + corr(B, F)) / 2``, Pearson correlations over all pixels. Higher is better; -1..1, and 1 only where
    both sources are brightness and contrast changes of F. The correlation with a constant image (0 / 0) counts as 0.
    The order of the sources does not matter. At least 1x1 pixel.

    Source: the usual definition of infrared-visible fusion, as in the code of CDDFuse. Variants: none known.

    Returns:
        ``[B]``, computed from exact sums whatever the dtype.
    """
    sums = images.once(_sums)
    both = _correlation(sums, (1, 0, 0), (0, 1, 0)) + _correlation(sums, (1, 0, 0), (0, 0, 1))
    return (both / 2).to(images.fused.dtype)


@metric(
    needs_sources=True,
    minimum_size=1,
    summary="sum of the correlations of differences, corr(F - B, A) + corr(F - A, B)",
    range="-2..2",
)
def scd(images: Images) -> Tensor:
    """Compute the sum of the correlations of differences (SCD) of fused images.

    ``corr(F - B, A) + corr(F - A, B)``, Pearson correlations over all pixels: what F has beyond one source should look
    like the other. Higher is better; -2..2. A correlation with a constant image or difference (0 / 0) counts as 0, so
    an F that is a copy of one source keeps only the other term. The order of the sources does not matter. At least 1x1
    pixel.

    Source: Aslantas & Bendes, "A new image quality metric for image fusion: the sum of the correlations of
    differences", AEU 2015. Variants: none known.

    Returns:
        ``[B]``, computed from exact sums whatever the dtype.
    """
    sums = images.once(_sums)
    both = _correlation(sums, (1, 0, -1), (0, 1, 0)) + _correlation(sums, (1, -1, 0), (0, 0, 1))
    return both.to(images.fused.dtype)


@metric(
    needs_sources=True,
    minimum_size=1,
    summary="10 log10(255^2 / MSE) in dB, MSE averaged over the sources",
    range="0..inf",
)
def psnr(images: Images) -> Tensor:
    """Compute the peak signal-to-noise ratio (PSNR) of fused images in dB.

    ``10 log10(255^2 / MSE)`` with ``MSE = (mean((A - F)^2) + mean((B - F)^2)) / 2``. Higher is better; from 0 (every
    pixel off by 255) to infinity, where F and both sources are identical. The order of the sources does not matter. At
    least 1x1 pixel.

    Source: the usual definition of infrared-visible fusion. Variants: the mean of the two sources' own PSNRs is at
    least as high, and infinite where F is a copy of one source; 0..1 data need a peak of 1 for the same number.

    Returns:
        ``[B]``, computed from exact sums whatever the dtype.
    """
    sums = images.once(_sums)
    squares = sums.second.diagonal(dim1=1, dim2=2)
    errors = 2 * squares[:, 0] + squares[:, 1] + squares[:, 2] - 2 * (sums.second[:, 0, 1] + sums.second[:, 0, 2])
    return (10 * torch.log10(255.0**2 * 2 * sums.pixels / errors)).to(images.fused.dtype)


class _Sums(NamedTuple):
    """Sums over the N pixels of each image, float64: whole numbers below 2^53, hence exact."""

    pixels: int
    first: Tensor
    """``[B, 3]`` sums of F, A (visible) and B (infrared)."""
    second: Tensor
    """``[B, 3, 3]`` sums of their products."""


def _sums(images: Images) -> _Sums:
    planes = torch.stack([image.flatten(1) for image in (images.fused, images.vis, images.ir)], dim=1).double()
    return _Sums(planes.shape[-1], planes.sum(dim=-1), planes @ planes.mT)


def _correlation(sums: _Sums, a: tuple[int, int, int], b: tuple[int, int, int]) -> Tensor:
    """Correlate two combinations of F, A and B, given by their weights; 0 where one of them is constant."""
    weights = _combinations(a, b, sums.first.device)
    first = sums.first @ weights.T
    # N^2 times the covariances: a constant combination has exactly 0.
    covariances = sums.pixels * (weights @ sums.second @ weights.T) - first[:, :, None] * first[:, None, :]
    scale = (covariances[:, 0, 0] * covariances[:, 1, 1]).sqrt()
    return torch.where(scale == 0, 0.0, covariances[:, 0, 1] / scale)


@cache  # none is ever dropped: a captured graph reads it where it lies
def _combinations(a: tuple[int, int, int], b: tuple[int, int, int], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # for later calls outside of it as well
        return torch.tensor([a, b], dtype=torch.float64, device=device)
