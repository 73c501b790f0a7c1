"""KDFuse: edge-oriented convolutions at full resolution, fused under semantic guidance.

Layers and parameter names follow github.com/lxq-jnu/KDFuse, so that its official weights load strictly.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.data.colour import rgb_to_luma
from fusion_env.teachers.base import Published, check_batch
from fusion_env.teachers.batch_statistics import use_batch_statistics
from fusion_env.teachers.kdfuse_blocks import EdgeResidualBlock, Enhancement, Injection
from fusion_env.teachers.published import PublishedTeacher
from fusion_env.teachers.registry import register
from fusion_env.teachers.stretch import min_max_stretch

__all__ = ["KDFuse", "KDFuseEval"]

_WIDTH = 32
_SEMANTIC = (128, 320)


class _ConvLayer(nn.Module):
    """A 3x3 convolution and its activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        return F.leaky_relu(self.conv(x), 0.2)


@register("kdfuse")
class KDFuse(PublishedTeacher):
    """The KDFuse network: 4.018045 M parameters, 125.0210 G multiply-adds (thop) at 224x224.

    Of the parameters 1.308640 M are in layers that never run; thop counts 2.491677 M, the published figure.

    The official script never leaves training mode, so that all batch normalisations use the statistics of the image at
    hand; that is how the published pictures came about, and the default here, per image, so that a batch gives what its
    images give alone. The script then puts the chroma back, clamps to 0..1, and stretches the coloured picture from its
    own minimum to its maximum; the luma of that picture is what this teacher returns. Statistics and stretch see the
    whole input: a crop is not fused as its place in the whole image would be, and ``teacher_context="image"`` cuts
    targets from whole images. The script's rounding to 8 bits before the stretch is left out.

    The edge branches are merged into one convolution on each call, which gives the same result in less time and memory.

    Args:
        batch_statistics: False evaluates the network with its stored statistics; see `KDFuseEval`.
    """

    published = Published(
        summary="KDFuse: edge-oriented convolutions at full resolution, by per-image statistics",
        repository="github.com/lxq-jnu/KDFuse",
        licence="none stated",
        files=("model.pth",),
        folder="kdfuse",
    )
    smallest = 2

    def __init__(self, batch_statistics: bool = True) -> None:
        super().__init__()
        self.batch_statistics = batch_statistics
        self.settings["batch_statistics"] = batch_statistics
        w, (near, far) = _WIDTH, _SEMANTIC
        self.conv1 = _ConvLayer(2, w)
        self.repblock1 = EdgeResidualBlock(w, 2 * w)
        self.repblock2 = EdgeResidualBlock(2 * w, 4 * w)
        self.repblock3 = EdgeResidualBlock(4 * w, 8 * w)
        self.en_conv1, self.sim1 = Enhancement(2 * w, near), Injection(near, 2 * w)
        self.en_conv2, self.sim2 = Enhancement(4 * w, far), Injection(far, 4 * w)
        self.rec_conv1 = _ConvLayer(8 * w, 4 * w)
        self.rec_conv2 = _ConvLayer(4 * w, 2 * w)
        self.rec_conv3 = _ConvLayer(2 * w, w)
        self.rec_conv4 = nn.Sequential(nn.Conv2d(w, 1, 3, padding=1), nn.Tanh())

    def train(self, mode: bool = True) -> "KDFuse":
        """Set training or evaluation mode, but for the statistics."""
        super().train(mode)
        if self.batch_statistics:
            use_batch_statistics(self)
        return self

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs; see `Teacher.forward`."""
        check_batch(ir=ir, vis=vis, smallest=self.smallest)
        luma = rgb_to_luma(vis)
        # With the chroma kept, every channel moves by as much as the luma does.
        coloured = (vis + self.forward_raw(ir=ir, vis=luma) - luma).clamp(0, 1)
        return rgb_to_luma(min_max_stretch(coloured)).clamp(0, 1)

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1 as grey ones; see `Teacher.fuse_luma`."""
        return min_max_stretch(self.forward_raw(ir=ir, vis=vis).clamp(0, 1))

    def forward_raw(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse without colour, clamp and stretch: values in -1..1."""
        if not self.batch_statistics:
            return self._network(ir, vis)
        samples = zip(ir.split(1), vis.split(1), strict=True)
        return torch.cat([self._network(*sample) for sample in samples])

    def _network(self, ir: Tensor, vis: Tensor) -> Tensor:
        shallow = self.conv1(torch.cat([ir, vis], dim=1))
        first = self.repblock1(shallow)
        second = self.repblock2(first)
        guided = self._guide(self.en_conv1, self.sim1, second)
        deep = self._guide(self.en_conv2, self.sim2, self.repblock3(guided))
        out = self.rec_conv1(deep) + guided
        out = self.rec_conv2(out) + first
        return self.rec_conv4(self.rec_conv3(out) + shallow)

    @staticmethod
    def _guide(enhance: Enhancement, inject: Injection, features: Tensor) -> Tensor:
        """Inject the semantic features of one half of the channels into it; the other half stays."""
        half, rest = features.chunk(2, dim=1)
        return torch.cat([inject(enhance(half), half), rest], dim=1)


@register("kdfuse-eval")
class KDFuseEval(KDFuse):
    """KDFuse in evaluation mode, with the statistics of its training; not the published pictures."""

    published = dataclasses.replace(
        KDFuse.published, summary="KDFuse in evaluation mode, not as its published pictures were made"
    )

    def __init__(self) -> None:
        super().__init__(batch_statistics=False)
