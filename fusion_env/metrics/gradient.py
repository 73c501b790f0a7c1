"""Metrics of edge strength: average gradient and edge intensity."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_env.metrics.levels import check_images, to_levels

__all__ = ["ag", "ei"]


@torch.no_grad()
def ag(fused: Tensor) -> Tensor:
    """Compute the average gradient (AG) of fused images.

    ``mean(sqrt((g_x^2 + g_y^2) / 2))`` over all M x N pixels, where g_x, g_y are central differences inside and
    one-sided ones at the border (MATLAB ``gradient``, ``numpy.gradient``). Higher is better (sharper, but also
    noisier); 0 for a constant image, at most 255, in levels per pixel. At least 2x2 pixels.

    Source: Cui et al., "Detail preserved fusion of visible and infrared images ...", Optics Communications 2015.
    Variants: VIFB and the MATLAB code of the SeAFusion family divide the same sum by (M-1)(N-1), +0.3 to +0.7 %; Cui's
    own formula takes forward differences, about +19 %.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.

    Returns:
        ``[B]``; float32 is within 1e-6 of float64.
    """
    check_images(2, fused=fused)
    levels = to_levels(fused)
    padded = F.pad(levels, (1, 1, 1, 1), mode="replicate")
    # Twice the gradient: over a replicated border a central difference is half the one-sided one.
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    across[..., :: across.shape[-1] - 1] *= 2
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    down[..., :: down.shape[-2] - 1, :] *= 2
    return _mean_length(across, down) / 8**0.5


@torch.no_grad()
def ei(fused: Tensor) -> Tensor:
    """Compute the edge intensity (EI) of fused images.

    ``mean(sqrt(s_x^2 + s_y^2))`` over all pixels, where s_x, s_y are the unnormalised Sobel responses (weights 1 2 1)
    with a replicated border. Higher is better (stronger edges, but also more noise); 0 for a constant image, at most
    ``1020 * sqrt(2)``. At least 1x1 pixel.

    Source: Rajalingam & Priya, "Hybrid multimodality medical image fusion technique ...", 2018, as in VIFB.
    Variants: a zero border (IVIF_ZOO) adds 4 to 20 % depending on the image size.

    Args:
        fused: Luma ``[B, 1, H, W]``, ``uint8`` or floats in 0..1.

    Returns:
        ``[B]``; float32 is within 1e-6 of float64.
    """
    check_images(1, fused=fused)
    padded = F.pad(to_levels(fused), (1, 1, 1, 1), mode="replicate")
    across = padded[..., 2:] - padded[..., :-2]
    across = torch.add(across[..., :-2, :], across[..., 1:-1, :], alpha=2).add_(across[..., 2:, :])
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = torch.add(down[..., :-2], down[..., 1:-1], alpha=2).add_(down[..., 2:])
    return _mean_length(across, down)


def _mean_length(across: Tensor, down: Tensor) -> Tensor:
    """Average the lengths of gradient vectors; works in place on its arguments."""
    return across.square_().addcmul_(down, down).sqrt_().mean(dim=(1, 2, 3))
