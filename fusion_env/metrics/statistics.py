"""Metrics of the grey-level distribution of one image: standard deviation and entropy."""

from math import log, nan

import torch
from torch import Tensor

from fusion_env.metrics.levels import check_images, to_levels

__all__ = ["en", "histograms", "sd"]


@torch.no_grad()
def sd(fused: Tensor) -> Tensor:
    """Compute the standard deviation (SD) of fused images.

    ``sqrt(mean((F - mean(F))^2))``, the population value. Higher is better (more contrast); 0 for a constant image, at
    most 127.5. At least 1x1 pixel.

    Source: Rao, "In-fibre Bragg grating sensors", Measurement Science and Technology 1997, as in VIFB, which calls it
    Variance. Variants: none in use; division by M N - 1 is not visible in the published digits.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.

    Returns:
        ``[B]``; float32 is within 1e-6 of float64.
    """
    check_images(1, fused=fused)
    levels = to_levels(fused)
    centred = levels - levels.mean(dim=(1, 2, 3), keepdim=True)
    return centred.square_().mean(dim=(1, 2, 3)).sqrt_()


@torch.no_grad()
def en(fused: Tensor) -> Tensor:
    """Compute the entropy (EN) of fused images in bits.

    ``-sum(p_i log2 p_i)`` over the 256-bin histogram of whole levels. Higher is better (more information, but also more
    noise); 0 for a constant image, at most 8. At least 1x1 pixel.

    Source: Roberts et al., "Assessment of image fusion procedures using entropy ...", J. Applied Remote Sensing 2008.
    Variants: IVIF_ZOO adds 1e-7 inside the logarithm, -5e-6.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.

    Returns:
        ``[B]``; float32 is within 1e-6 of float64.
    """
    check_images(1, fused=fused)
    levels = to_levels(fused).flatten(1)
    # NaN has a bin of its own: converted to an integer it could be any index.
    counts = histograms(levels.nan_to_num(nan=256.0).int(), bins=257)
    share = counts[:, :256].to(levels.dtype) / levels.shape[1]
    entropy = -torch.xlogy(share, share).sum(dim=1) / log(2.0)
    return entropy.masked_fill(counts[:, 256] > 0, nan)


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
    counts = torch.bincount(flat, minlength=batch * bins) if flat.is_cpu else _scattered_counts(flat, batch * bins)
    return counts.view(batch, bins)


def _scattered_counts(flat: Tensor, bins: int) -> Tensor:
    ones = torch.ones(1, dtype=torch.int64, device=flat.device).expand(len(flat))
    return torch.zeros(bins, dtype=torch.int64, device=flat.device).scatter_add_(0, flat.long(), ones)
