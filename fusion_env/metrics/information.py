"""Metrics of Shannon information: entropy of a fused image, and what it shares with its sources."""

from math import log, nan
from typing import NamedTuple

import torch
from torch import Tensor

from fusion_env.metrics.images import Images
from fusion_env.metrics.registry import metric

__all__ = ["en", "histograms", "mi", "scattered_counts"]

_LEVELS = 256
# Joint histograms counted at a time: each takes 65536 bins, however small the image.
_JOINT_IMAGES = 16


@metric(
    needs_sources=False,
    minimum_size=1,
    summary="entropy of the 256-bin histogram in bits (AgentFuse)",
    range="0..8",
)
def en(images: Images) -> Tensor:
    """Compute the entropy (EN) of fused images in bits.

    ``-sum(p_i log2 p_i)`` over the 256-bin histogram of whole levels. Higher is better (more information, but also more
    noise); 0 for a constant image, at most 8. At least 1x1 pixel.

    Source: Roberts et al., "Assessment of image fusion procedures using entropy ...", J. Applied Remote Sensing 2008;
    the EN of the AgentFuse paper. Variants: IVIF_ZOO adds 1e-7 inside the logarithm, -5e-6.

    Returns:
        ``[B]``, computed in double precision whatever the dtype.
    """
    return images.once(_fused_entropy).to(images.fused.dtype)


@metric(
    needs_sources=True,
    minimum_size=1,
    summary="mutual information with the sources in bits, summed",
    range="0..16",
)
def mi(images: Images) -> Tensor:
    """Compute the mutual information (MI) of fused images and their sources in bits: ``I(A; F) + I(B; F)``.

    ``I(A; F) = H(A) + H(F) - H(A, F)`` with the entropies of the 256-bin histograms and of the 256x256-bin joint one of
    whole levels. Higher is better; 0 where F tells nothing (as a constant one), at most 16 and twice the entropy of F.
    The order of the sources does not matter. At least 1x1 pixel; on few pixels it is far too high, as nearly every pair
    of levels is unique.

    Source: Qu, Zhang & Yan, "Information measure for performance of image fusion", Electronics Letters 2002. Variants:
    CDDFuse and VIFB take the natural logarithm, x 0.6931; a MATLAB version that adds 1 to ``uint8`` data merges the
    levels 254 and 255, +1e-5 to +1e-4.

    Returns:
        ``[B]``, computed in double precision whatever the dtype.
    """
    fused = images.once(_fused_bins).bin
    shared = 2 * images.once(_fused_entropy)
    for levels in (images.vis, images.ir):
        source = _bins(levels)
        shared = shared + _entropy_of_bins(source) - _joint_entropy(source.bin, fused)
    return shared.clamp_(min=0.0).to(images.fused.dtype)


class _Bins(NamedTuple):
    """Levels of images as indices of bins."""

    bin: Tensor
    """``[B, N]`` ``int32``, 0..255; 0 for NaN, which as an integer could be anything."""
    unknown: Tensor
    """``[B]``, whether an image has NaN."""


def _bins(levels: Tensor) -> _Bins:
    flat = levels.flatten(1)
    return _Bins(flat.nan_to_num(nan=0.0).int(), flat.sum(dim=1).isnan())


def _fused_bins(images: Images) -> _Bins:
    return _bins(images.fused)


def _fused_entropy(images: Images) -> Tensor:
    return _entropy_of_bins(images.once(_fused_bins))


def _entropy_of_bins(bins: _Bins) -> Tensor:
    return _entropy(histograms(bins.bin, _LEVELS)).masked_fill_(bins.unknown, nan)


def _entropy(counts: Tensor) -> Tensor:
    """Compute the entropies, in bits, of histograms ``[B, bins]`` -> ``[B]`` float64."""
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    return 0.0 - torch.xlogy(share, share).sum(dim=1) / log(2.0)  # a negation would make 0 a -0


def _joint_entropy(some: Tensor, others: Tensor) -> Tensor:
    groups = zip(some.split(_JOINT_IMAGES), others.split(_JOINT_IMAGES), strict=True)
    return torch.cat([_entropy(histograms(_LEVELS * a + b, _LEVELS**2)) for a, b in groups])


def histograms(index: Tensor, bins: int) -> Tensor:
    """Count how often each bin occurs in each row.

    Args:
        index: ``[B, N]`` ``int32`` bin of each element, 0..bins-1.
        bins: Number of bins; ``B * bins`` must fit ``int32``.

    Returns:
        ``[B, bins]`` ``int64`` counts.
    """
    batch = len(index)
    flat = (index + bins * torch.arange(batch, dtype=torch.int32, device=index.device)[:, None]).flatten()
    # bincount is the fastest on a CPU; on a GPU it makes the host wait, to size its output.
    counts = torch.bincount(flat, minlength=batch * bins) if flat.is_cpu else scattered_counts(flat, batch * bins)
    return counts.view(batch, bins)


def scattered_counts(flat: Tensor, bins: int) -> Tensor:
    """Count as `torch.bincount` does, without waiting for a GPU."""
    ones = torch.ones(1, dtype=torch.int64, device=flat.device).expand(len(flat))
    return torch.zeros(bins, dtype=torch.int64, device=flat.device).scatter_add_(0, flat.long(), ones)
