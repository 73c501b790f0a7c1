"""TIMFusion: two networks of searched cells, one for a first result, one that refines it from both images.

Layers and parameter names follow github.com/LiuZhu-CV/TIMFusion, so that its official weights load strictly.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.teachers.base import Published
from fusion_env.teachers.batch_statistics import use_batch_statistics
from fusion_env.teachers.published import OfficialFile, PublishedTeacher, load_part
from fusion_env.teachers.registry import register
from fusion_env.teachers.timfusion_cells import (
    ChainCell,
    DenseBlock,
    DilatedConv,
    EcaBlock,
    MultiScaleCell,
    SpatialGate,
)

__all__ = ["TIMFusion", "TIMFusionEval"]

_WIDTH = 48
_MULTIPLE = 4


class _ConvLayer(nn.Module):
    """Convolution with reflected borders that keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.reflection_pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(inputs, outputs, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        return self.conv2d(self.reflection_pad(x))


class _FirstNetwork(nn.Module):
    """Fuse both images at three scales."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _ConvLayer(2, 2 * _WIDTH, 3), nn.PReLU(), _ConvLayer(2 * _WIDTH, _WIDTH, 3), nn.PReLU()
        )
        chain = ChainCell(_WIDTH, DenseBlock(_WIDTH), DilatedConv(_WIDTH))
        self.cells = nn.Sequential(MultiScaleCell(_WIDTH), chain)
        self.stem_out = nn.Sequential(
            _ConvLayer(_WIDTH, _WIDTH, 3), nn.PReLU(), _ConvLayer(_WIDTH, _WIDTH // 2, 3), _ConvLayer(_WIDTH // 2, 1, 1)
        )

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images, H and W multiples of 4; the result has no limits."""
        return self.stem_out(self.cells(self.stem(torch.cat([ir, vis], dim=1))))


class _Mask(nn.Module):
    """One weight per position from the features' maximum, counted twice, and mean over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 1, 1, bias=False)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, 1, H, W] in 0..1."""
        largest = x.amax(dim=1, keepdim=True)
        return torch.sigmoid(self.spatial(torch.cat([largest, largest, x.mean(dim=1, keepdim=True)], dim=1)))


class _SecondNetwork(nn.Module):
    """Refine a first result: a branch for each image, blended by a mask.

    The two side heads give an image for each branch; fusion does not need them, but the published cost counts them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spa = _Mask()
        self.stem2, self.stem3 = self._stem(), self._stem()
        self.stem_out2, self.stem_out3 = self._side_head(), self._side_head()
        self.stem_out4 = nn.Sequential(
            _ConvLayer(_WIDTH, _WIDTH, 3), _ConvLayer(_WIDTH, _WIDTH // 2, 3), _ConvLayer(_WIDTH // 2, 1, 1)
        )
        self.cells2 = nn.Sequential(*[ChainCell(_WIDTH, SpatialGate(), DilatedConv(_WIDTH)) for _ in range(2)])
        self.cells3 = nn.Sequential(*[ChainCell(_WIDTH, EcaBlock(_WIDTH), SpatialGate()) for _ in range(2)])

    @staticmethod
    def _stem() -> nn.Sequential:
        first, second = _ConvLayer(2, 2 * _WIDTH, 3), _ConvLayer(2 * _WIDTH, _WIDTH, 3)
        return nn.Sequential(first, nn.PReLU(), second, nn.BatchNorm2d(_WIDTH), nn.PReLU())

    @staticmethod
    def _side_head() -> nn.Sequential:
        first, second = _ConvLayer(_WIDTH, _WIDTH, 3), _ConvLayer(_WIDTH, _WIDTH // 2, 3)
        return nn.Sequential(first, nn.PReLU(), second, _ConvLayer(_WIDTH // 2, 1, 1), nn.Tanh())

    def forward(self, ir: Tensor, vis: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refine [B, 1, H, W] images; return both side images in -1..1 and the result, which has no limits."""
        of_vis = self.cells3(self.stem2(torch.cat([vis, first], dim=1)))
        of_ir = self.cells2(self.stem3(torch.cat([ir, first], dim=1)))
        mask = self.spa(of_vis)
        fused = self.stem_out4(mask * of_vis + (1 - mask) * of_ir)
        return self.stem_out2(of_vis), self.stem_out3(of_ir), fused


@register("timfusion")
class TIMFusion(PublishedTeacher):
    """TIMFusion, both networks: 1.232225 M parameters, 35.2640 G multiply-adds (thop) at 224x224.

    The official script leaves the second network in training mode, so that its batch normalisations use the statistics
    of the image at hand; that changes the output much and is how the published pictures came about. It is the default
    here, per image, so that a batch gives what its images give alone. A crop then is not fused as its place in the
    whole image would be: ``teacher_context="image"`` cuts targets from whole images.

    The script reads grey images only (of coloured ones, their blue channel); here visible luma is fused. Images are
    padded by reflection, at the bottom and right, to multiples of 4. The result is clamped to 0..1.

    Args:
        batch_statistics: False evaluates both networks with their stored statistics; see `TIMFusionEval`.
    """

    published = Published(
        summary="TIMFusion: searched cells in two networks, the second by per-image statistics",
        repository="github.com/LiuZhu-CV/TIMFusion",
        licence="MIT",
        files=("weights_1_1059.pt", "weights_2_1059.pt"),
        folder="timfusion",
    )
    smallest = 8

    def __init__(self, batch_statistics: bool = True) -> None:
        super().__init__()
        self.batch_statistics = batch_statistics
        self.settings["batch_statistics"] = batch_statistics
        self.model_1 = _FirstNetwork()
        self.model_2 = _SecondNetwork()

    def load_official(self, files: Mapping[str, OfficialFile]) -> None:
        """Load both networks; see `PublishedTeacher.load_official`.

        The official script loads non-strictly; a file that does not fit strictly is refused here all the same.
        """
        for network, file in zip((self.model_1, self.model_2), files.values(), strict=True):
            load_part(network, file.content, str(file.path))

    def train(self, mode: bool = True) -> "TIMFusion":
        """Set training or evaluation mode, but for the statistics of the second network."""
        super().train(mode)
        if self.batch_statistics:
            use_batch_statistics(self.model_2)
        return self

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1, H and W at least 8; see `Teacher.fuse_luma`."""
        height, width = ir.shape[-2:]
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        ir, vis = (F.pad(image, padding, mode="reflect") for image in (ir, vis))
        return self.forward_raw(ir=ir, vis=vis)[..., :height, :width].clamp(0, 1)

    def forward_raw(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse without padding and clamp: H and W must be multiples of 4, the result has no limits."""
        first = self.model_1(ir, vis)
        if not self.batch_statistics:
            return self.model_2(ir, vis, first)[2]
        samples = zip(ir.split(1), vis.split(1), first.split(1), strict=True)
        return torch.cat([self.model_2(*sample)[2] for sample in samples])


@register("timfusion-eval")
class TIMFusionEval(TIMFusion):
    """TIMFusion with both networks in evaluation mode, as their definition intends; not the published pictures."""

    published = dataclasses.replace(
        TIMFusion.published, summary="TIMFusion in evaluation mode, not as its published pictures were made"
    )

    def __init__(self) -> None:
        super().__init__(batch_statistics=False)
