"""Metrics of edge strength: average gradient, edge intensity, spatial frequency."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion_env.metrics.images import Images
from fusion_env.metrics.registry import metric

__all__ = [
    "Sobel",
    "ag",
    "ag_forward",
    "ei",
    "ei_zero",
    "fused_sobel",
    "sf",
    "sf_uint8",
    "sobel",
]


@metric(
    needs_sources=False,
    minimum_size=2,
    summary="mean gradient length / sqrt(2); central differences, one-sided at the border",
    range="0..255",
)
def ag(images: Images) -> Tensor:
    """Compute the average gradient (AG) of fused images.

    ``mean(sqrt((g_x^2 + g_y^2) / 2))`` over all M x N pixels, where g_x, g_y are central differences inside and
    one-sided ones at the border (MATLAB ``gradient``, ``numpy.gradient``). Higher is better (sharper, but also
    noisier); 0 for a constant image, at most 255, in levels per pixel. At least 2x2 pixels.

    Source: Cui et al., "Detail preserved fusion of visible and infrared images ...", Optics Communications 2015, as in
    the Python code of CDDFuse and IVIF_ZOO. Variants: VIFB and the MATLAB code of the SeAFusion family divide the same
    sum by (M-1)(N-1), +0.3 to +0.7 %; Cui's own formula is `ag_forward`.

    Returns:
        ``[B]``; float32 is within 1e-6 (relative) of float64.
    """
    # Twice the gradient: the sum of the two steps at a pixel, or twice the only one at the border.
    steps = images.once(_steps)
    across, down = torch.empty_like(images.fused), torch.empty_like(images.fused)
    torch.add(steps.across[..., 1:], steps.across[..., :-1], out=across[..., 1:-1])
    torch.add(steps.down[..., 1:, :], steps.down[..., :-1, :], out=down[..., 1:-1, :])
    for border in (0, -1):
        across[..., border] = 2 * steps.across[..., border]
        down[..., border, :] = 2 * steps.down[..., border, :]
    return _mean(_length(across, down)) / 8**0.5


@metric(
    needs_sources=False,
    minimum_size=2,
    summary="mean gradient length / sqrt(2); forward differences (AgentFuse)",
    range="0..255",
)
def ag_forward(images: Images) -> Tensor:
    """Compute the average gradient of fused images with forward differences.

    ``mean(sqrt((d_x^2 + d_y^2) / 2))``, where d_x, d_y are the differences to the right and the lower neighbour, over
    the (M-1) x (N-1) pixels that have both. Higher is better; 0 for a constant image, at most 255, in levels per pixel.
    At least 2x2 pixels.

    Source: Cui et al., Optics Communications 2015, the textbook formula; the AG of the AgentFuse paper. Variants: see
    `ag`, which is lower by a sixth to a quarter, as central differences blur.

    Returns:
        ``[B]``; float32 is within 1e-6 (relative) of float64.
    """
    steps = images.once(_steps)
    return _mean(_length(steps.across[..., :-1, :].clone(), steps.down[..., :-1])) / 2**0.5


@metric(
    needs_sources=False,
    minimum_size=1,
    summary="mean Sobel gradient length; replicated border (VIFB, AgentFuse)",
    range="0..1442.5",
)
def ei(images: Images) -> Tensor:
    """Compute the edge intensity (EI) of fused images.

    ``mean(sqrt(s_x^2 + s_y^2))`` over all pixels, where s_x, s_y are the unnormalised Sobel responses (weights 1 2 1)
    with a replicated border. Higher is better (stronger edges, but also more noise); 0 for a constant image, at most
    ``1020 * sqrt(2)``. At least 1x1 pixel.

    Source: Rajalingam & Priya, "Hybrid multimodality medical image fusion technique ...", 2018, as in VIFB; the EI of
    the AgentFuse paper. Variants: `ei_zero`; a reflected border is up to 3 % off.

    Returns:
        ``[B]``; float32 is within 1e-6 (relative) of float64.
    """
    return _mean(_length(*sobel(images.fused, "replicate")))


@metric(
    needs_sources=False,
    minimum_size=1,
    summary="mean Sobel gradient length; zero border (IVIF_ZOO)",
    range="0..1442.5",
)
def ei_zero(images: Images) -> Tensor:
    """Compute the edge intensity of fused images with a zero border.

    As `ei`, but pixels outside the image count as 0, which adds an edge around the image: about +7 %, +3.6 % at
    1024x768, up to +20 % on small images. Higher is better; 0 only for a black image, at most ``1020 * sqrt(2)``. At
    least 1x1 pixel.

    Source: the code of IVIF_ZOO. Variants: see `ei`.

    Returns:
        ``[B]``; float32 is within 1e-6 (relative) of float64.
    """
    across, down = images.once(fused_sobel)
    return _mean(_length(across.clone(), down))


@metric(
    needs_sources=False,
    minimum_size=2,
    summary="root of the summed mean squares of row and column differences",
    range="0..360.6",
)
def sf(images: Images) -> Tensor:
    """Compute the spatial frequency (SF) of fused images.

    ``sqrt(mean(d_x^2) + mean(d_y^2))``, d_x and d_y the differences of neighbours in rows and columns, each mean over
    its own number of differences. Higher is better (more detail, but also more noise); 0 for a constant image, at most
    ``255 * sqrt(2)``. At least 2x2 pixels.

    Source: Eskicioglu & Fisher, "Image quality measures and their performance", IEEE Trans. Communications 1995.
    Variants: VIFB divides both sums by M N, -0.1 to -0.2 %; `sf_uint8` is what MATLAB code returns for images that were
    never converted to ``double``.

    Returns:
        ``[B]``; float32 is within 1e-6 (relative) of float64.
    """
    steps = images.once(_steps)
    return (_mean(steps.across.square()) + _mean(steps.down.square())).sqrt_()


@metric(
    needs_sources=False,
    minimum_size=2,
    summary="spatial frequency in MATLAB's saturating uint8 arithmetic (AgentFuse)",
    range="0..22.6",
)
def sf_uint8(images: Images) -> Tensor:
    """Compute the spatial frequency of fused images as MATLAB does in ``uint8`` arithmetic.

    As `sf`, but a negative difference to the right or lower neighbour counts as 0, and a squared difference as at most
    255: MATLAB's integers saturate. Mirroring an image changes it. Higher is better; 0 for a constant image, at most
    ``sqrt(510)``. At least 2x2 pixels.

    Source: the common MATLAB function ``SF_evaluation`` applied to an image straight from ``imread``; the SF of the
    AgentFuse paper (5 to 8, where `sf` is 13 to 17). Variants: numpy's ``uint8`` wraps around instead.

    Returns:
        ``[B]``; float32 is within 1e-6 (relative) of float64.
    """
    steps = images.once(_steps)
    across, down = (_mean(step.clamp(min=0.0).square_().clamp_(max=255.0)) for step in steps)
    return (across + down).sqrt_()


class Sobel(NamedTuple):
    """Sobel responses of images: ``[B, 1, H, W]`` each."""

    across: Tensor
    down: Tensor


def sobel(levels: Tensor, border: str) -> Sobel:
    """Compute the unnormalised Sobel responses (weights 1 2 1) of images.

    Args:
        levels: ``[B, 1, H, W]``.
        border: ``"replicate"`` or ``"constant"`` (zero), as `torch.nn.functional.pad` calls them.
    """
    padded = F.pad(levels, (1, 1, 1, 1), mode=border)
    across = padded[..., 2:] - padded[..., :-2]
    across = torch.add(across[..., :-2, :], across[..., 1:-1, :], alpha=2).add_(across[..., 2:, :])
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = torch.add(down[..., :-2], down[..., 1:-1], alpha=2).add_(down[..., 2:])
    return Sobel(across, down)


def fused_sobel(images: Images) -> Sobel:
    """Compute the Sobel responses of the fused images with a zero border, for `Images.once`."""
    return sobel(images.fused, "constant")


class _Steps(NamedTuple):
    """Differences to the right neighbour ``[B, 1, H, W - 1]`` and to the lower one ``[B, 1, H - 1, W]``."""

    across: Tensor
    down: Tensor


def _steps(images: Images) -> _Steps:
    levels = images.fused
    return _Steps(levels[..., 1:] - levels[..., :-1], levels[..., 1:, :] - levels[..., :-1, :])


def _length(across: Tensor, down: Tensor) -> Tensor:
    """Return the lengths of gradient vectors, written over ``across``."""
    return across.square_().addcmul_(down, down).sqrt_()


def _mean(plane: Tensor) -> Tensor:
    return plane.mean(dim=(1, 2, 3))
