"""SAGE, the deployed sub-network: a small U-Net of constant width.

Layers and parameter names follow github.com/RollingPlain/SAGE_IVIF, so that its official weights load strictly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.data.colour import rgb_to_luma
from fusion_env.teachers.base import Published, check_batch
from fusion_env.teachers.published import PublishedTeacher
from fusion_env.teachers.registry import register

__all__ = ["SAGE"]

_WIDTH = 32
# OpenCV's 8-bit weights of red, green and blue in luma, over 2^14.
_RED, _GREEN, _BLUE, _SHIFT = 4899, 9617, 1868, 1 << 14
_LEVEL_MARGIN = 1e-3


def _layer(inputs: int, kernel: int) -> list[nn.Module]:
    """Convolution to the common width that keeps the size, normalisation, activation."""
    return [nn.Conv2d(inputs, _WIDTH, kernel, padding=kernel // 2), nn.BatchNorm2d(_WIDTH), nn.LeakyReLU(inplace=True)]


def _stage(inputs: int) -> nn.Sequential:
    return nn.Sequential(*_layer(inputs, 3), *_layer(_WIDTH, 3), *_layer(_WIDTH, 3))


@register("sage")
class SAGE(PublishedTeacher):
    """The SAGE network: 0.135617 M parameters, 3.3217 G multiply-adds (thop) at 224x224; any size from 4x4.

    Pre-processing is the official one: of 8-bit pictures the visible luma is rounded to the levels that OpenCV's 8-bit
    conversion gives; that of values between the levels, which the official script cannot read, is not rounded.
    The output, a hyperbolic tangent, is clamped to 0..1; the official script adds the chroma before it clamps, which
    only matters where the network goes below 0.
    """

    published = Published(
        summary="SAGE: U-Net of width 32, distilled with segmentation priors",
        repository="github.com/RollingPlain/SAGE_IVIF",
        licence="MIT",
        files=("checkpoints.pt",),
    )

    smallest = 4

    def __init__(self) -> None:
        super().__init__()
        self.module1 = _stage(2)
        self.module2 = _stage(_WIDTH)
        self.module3 = _stage(_WIDTH)
        self.adjust_channels4 = nn.Sequential(*_layer(2 * _WIDTH, 1))
        self.module4 = _stage(_WIDTH)
        self.adjust_channels5 = nn.Sequential(*_layer(2 * _WIDTH, 1))
        self.module5 = _stage(_WIDTH)
        self.pool = nn.MaxPool2d(2)
        self.final_decoder = nn.Sequential(nn.Conv2d(_WIDTH, 1, 3, padding=1), nn.Tanh())

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs; see `Teacher.forward`."""
        check_batch(ir=ir, vis=vis, smallest=self.smallest)
        return self.fuse_luma(ir=ir, vis=_official_luma(vis))

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1, H and W at least 4; see `Teacher.fuse_luma`."""
        return self.forward_raw(ir=ir, vis=vis).clamp(0, 1)

    def forward_raw(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse without the clamp: values in -1..1."""
        fine = self.module1(torch.cat([vis, ir], dim=1))
        middle = self.module2(self.pool(fine))
        coarse = self.module3(self.pool(middle))
        middle = self.module4(self.adjust_channels4(_join(coarse, middle)))
        return self.final_decoder(self.module5(self.adjust_channels5(_join(middle, fine))))


def _join(coarse: Tensor, skip: Tensor) -> Tensor:
    """Enlarge the coarser features to the size of the finer ones and put both side by side."""
    return torch.cat([F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear"), skip], dim=1)


def _official_luma(vis: Tensor) -> Tensor:
    """Return luma [B, 1, H, W] in 0..1 of RGB: by OpenCV's 8-bit conversion for each picture of whole 8-bit levels."""
    scaled = vis * 255
    levels = scaled.round()
    red, green, blue = levels.split(1, dim=1)
    # float32 holds these whole numbers, below 2^24, exactly.
    rounded = (_RED * red + _GREEN * green + _BLUE * blue + _SHIFT // 2).div(_SHIFT).floor() / 255
    whole = ((scaled - levels).abs() < _LEVEL_MARGIN).all(dim=3).all(dim=2).all(dim=1)
    return torch.where(whole.view(-1, 1, 1, 1), rounded, rgb_to_luma(vis))
