"""A classical teacher without weights: multi-scale fusion with Laplacian pyramids."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_env.errors import ConfigError
from fusion_env.teachers.base import Teacher
from fusion_env.teachers.registry import register

__all__ = ["LaplacianTeacher", "fuse_laplacian"]

_MIN_SIZE = 32
# The base is 8 to 15 pixels on its shorter side: coarse enough that only illumination and the largest areas are left.
_COARSEST = 8
_SHARPNESS = 4.0
# About the energy of a quarter of a grey level: where neither source has detail, both count alike.
_FLAT_ENERGY = 1e-6
# Keeps the weights of the base near one half where neither source stands out.
_BASE_PRIOR = 0.1


def fuse_laplacian(*, ir: Tensor, vis: Tensor, kernel: Tensor) -> Tensor:
    """Fuse with Laplacian pyramids (Burt and Adelson, 1983): strongest detail, saliency-weighted base.

    In every band-pass level each pixel takes the source with more local energy E (5x5 Gaussian mean of squares), by the
    weight E_ir^p / (E_ir^p + E_vis^p) with p = 4, which is a choice by maximum with a short transition instead of a
    seam. The coarsest level is averaged with weights that grow with each source's distance from its own mean, so that
    hot targets and lit areas keep their brightness.

    Args:
        ir: [B, 1, H, W] in 0..1, H and W at least 32.
        vis: Visible luma, same shape and range.
        kernel: The 5x5 binomial filter, [1, 1, 5, 5], sum 1.

    Returns:
        Fused luma, [B, 1, H, W] in 0..1.

    Raises:
        ValueError: If the images are too small.
    """
    if min(ir.shape[-2:]) < _MIN_SIZE:
        raise ValueError(f"Height and width must be at least {_MIN_SIZE} pixels. Got {tuple(ir.shape[-2:])}.")
    ir_bands, ir_base = _pyramid(ir, kernel)
    vis_bands, vis_base = _pyramid(vis, kernel)
    fused = _fuse_base(ir=ir_base, vis=vis_base)
    for ir_band, vis_band in zip(reversed(ir_bands), reversed(vis_bands), strict=True):
        fused = _expand(fused, ir_band.shape[-2:], kernel) + _fuse_band(ir=ir_band, vis=vis_band, kernel=kernel)
    return fused.clamp(0, 1)


@register("laplacian")
class LaplacianTeacher(Teacher):
    """Laplacian pyramids, a classical method: no weights, any size from 32x32; see `fuse_laplacian`."""

    needs_weights = False

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None])

    @classmethod
    def from_weights(cls, weights: Path | None) -> "LaplacianTeacher":
        """Build the teacher.

        Args:
            weights: Must be None.

        Raises:
            ConfigError: If ``weights`` is given.
        """
        if weights is not None:
            raise ConfigError(
                f'teacher "laplacian" takes no weights. Got {str(weights)!r}; leave teacher_weights unset.'
            )
        return cls()

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1; see `fuse_laplacian`."""
        return fuse_laplacian(ir=ir, vis=vis, kernel=self.kernel)


def _pyramid(image: Tensor, kernel: Tensor) -> tuple[list[Tensor], Tensor]:
    """Split an image into band-pass levels, finest first, and the base; their expanded sum is the image."""
    bands = []
    while min(image.shape[-2:]) >= 2 * _COARSEST:
        smaller = _blur(image, kernel)[..., ::2, ::2]
        bands.append(image - _expand(smaller, image.shape[-2:], kernel))
        image = smaller
    return bands, image


def _blur(image: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), kernel)


def _expand(image: Tensor, size: torch.Size, kernel: Tensor) -> Tensor:
    """Double the size, interpolating with the filter; ``size`` is that of the image before its reduction."""
    height, width = size
    # Padding by one pixel shifts pixel 0 to offset 4 of the result.
    doubled = F.conv_transpose2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 4 * kernel, stride=2)
    return doubled[..., 4 : 4 + height, 4 : 4 + width]


def _fuse_band(*, ir: Tensor, vis: Tensor, kernel: Tensor) -> Tensor:
    ir_energy, vis_energy = (_blur(band.square(), kernel) + _FLAT_ENERGY for band in (ir, vis))
    ir_weight = torch.sigmoid(_SHARPNESS * (ir_energy.log() - vis_energy.log()))
    return torch.lerp(vis, ir, ir_weight)


def _fuse_base(*, ir: Tensor, vis: Tensor) -> Tensor:
    ir_saliency, vis_saliency = (_saliency(base) for base in (ir, vis))
    return torch.lerp(vis, ir, (ir_saliency + _BASE_PRIOR) / (ir_saliency + vis_saliency + 2 * _BASE_PRIOR))


def _saliency(base: Tensor) -> Tensor:
    return (base - base.mean(dim=(1, 2, 3), keepdim=True)).abs()
