"""Metrics of the information that a fused image shares with its sources: visual information fidelity."""

from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_env.metrics.levels import check_images, to_levels
from fusion_env.metrics.windows import gaussian_window, halve, local_moments, stack_rows_first

__all__ = ["vif", "vif_pair"]

_WINDOWS = tuple(gaussian_window(size, size / 5) for size in (17, 9, 5, 3))
_NOISE_VARIANCE = 2.0
_MINIMUM_SIZE = 41
# Makes 0 / 0 of a constant source 1.
_TINY = 1e-10
# Variances up to this are rounding noise of a flat region (levels squared).
_FLAT = {torch.float64: 1e-10, torch.float32: 1e-4}


@torch.no_grad()
def vif(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Compute the visual information fidelity (VIF) of fused images: ``vif_pair(vis, F) + vif_pair(ir, F)``.

    Higher is better (more of the sources' information is kept); about 2 for perfect fidelity to both sources, more
    where F raises their contrast. At least 41x41 pixels.

    Variants: CDDFuse publishes this sum as "VIFF", TDFusion half of it; Han's VIFF is another metric, and so is the
    wavelet VIF of pyiqa. IVIF_ZOO pads with zeros and shifts the window, +2.5 %.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.
        ir: Infrared images, same shape and dtype.
        vis: Luma of the visible images, same shape and dtype.

    Returns:
        ``[B]``; see `vif_pair` for the precision.
    """
    check_images(_MINIMUM_SIZE, fused=fused, ir=ir, vis=vis)
    return _vifp(stack_rows_first(to_levels(fused), to_levels(ir), to_levels(vis))).sum(dim=0)


@torch.no_grad()
def vif_pair(source: Tensor, fused: Tensor) -> Tensor:
    """Compute the pixel-domain VIF of fused images against one source; the order of the arguments matters.

    On four scales, with local moments under Gaussian windows of 17, 9, 5 and 3 pixels (sigma = size / 5, no padding),
    F is modelled as ``g S + v``. The value is ``sum log(1 + g^2 s_S^2 / (s_v^2 + 2)) / sum log(1 + s_S^2 / 2)``, both
    sums over all pixels of all scales. From the second scale on, the images are first filtered and every second pixel
    is kept. Higher is better; 0 where nothing of S is left, 1 for F = S, above 1 where F has more contrast. A constant
    source has nothing to lose and gives 1. At least 41x41 pixels.

    Source: Sheikh & Bovik, "Image information and visual quality", IEEE TIP 2006, in the authors' pixel-domain version
    ``vifp_mscale``; sewar, piq (``vif_p``), torchmetrics and CDDFuse compute the same.

    Args:
        source: Luma ``[B, 1, H, W]`` of the reference, ``uint8`` or floats in 0..1.
        fused: Luma of the fused images, same shape and dtype.

    Returns:
        ``[B]``; float32 is within 2e-4 (relative) of float64, typically within 2e-6.
    """
    check_images(_MINIMUM_SIZE, source=source, fused=fused)
    return _vifp(stack_rows_first(to_levels(fused), to_levels(source)))[0]


def _vifp(images: Tensor) -> Tensor:
    """Compute VIF of ``images[:, 0]`` against the others: levels ``[H, 1 + S, B, W]``, overwritten -> ``[S, B]``."""
    # No variance depends on the mean, but float32 keeps two more digits of a variance without it.
    images -= images.mean(dim=(0, 3), keepdim=True)
    kept = available = images.new_zeros(images.shape[1] - 1, images.shape[2])
    flat = _FLAT[images.dtype]
    for scale, window in enumerate(_WINDOWS):
        if scale > 0:
            images = halve(images, window)
        _, _, variance_f, variance_s, covariance = local_moments(images, window)
        variance_f, variance_s = F.threshold_(variance_f, flat, 0.0), F.threshold_(variance_s, flat, 0.0)
        # g^2 s_S^2 = cov(S, F)^2 / s_S^2 is the part of F's variance that S explains, s_v^2 the rest. Where g < 0 or S
        # is flat, nothing is explained.
        explained = covariance.clamp_(min=0).square_().div_(F.threshold(variance_s, flat, inf))
        explained = torch.minimum(explained, variance_f)
        noise = (variance_f - explained).add_(_NOISE_VARIANCE)
        kept = kept + explained.div_(noise).log1p_().sum(dim=(0, 3))
        available = available + variance_s.div_(_NOISE_VARIANCE).log1p_().sum(dim=(0, 3))
    return (kept + _TINY) / (available + _TINY)
