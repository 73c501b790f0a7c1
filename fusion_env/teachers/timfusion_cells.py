"""The searched cells of TIMFusion and their operations; see `fusion_env.teachers.timfusion`.

Parameter names are the published ones. No convolution has a bias. Tensors are [B, C, H, W].
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.teachers.kdfuse_blocks import ChannelWeights

__all__ = ["ChainCell", "DenseBlock", "DilatedConv", "EcaBlock", "MultiScaleCell", "SpatialGate"]

_DENSE_SCALE = 0.333
_KERNELS_REDUCTION = 8


def _conv(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """Build a convolution without bias that keeps the size."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)


class _Wrapped(nn.Module):
    """A grouped 3x3 convolution under the published name ``conv``."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs, 3, dilation, groups=outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Operation(nn.Module):
    """An operation under the published name ``_op``."""

    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self._op = op

    def forward(self, x: Tensor) -> Tensor:
        return self._op(x)


class _Residual(nn.Module):
    """Depthwise convolutions near and far, mixed, normalised, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        far = _conv(channels, channels, 3, dilation=2, groups=channels)
        mix = _conv(channels, channels)
        self.op = nn.Sequential(_Wrapped(channels, channels), far, mix, nn.BatchNorm2d(channels), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x) + x


class DilatedConv(nn.Module):
    """ReLU, separable convolution with dilation 2, normalisation, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        far = _Wrapped(channels, channels, dilation=2)
        self.op = nn.Sequential(nn.ReLU(), far, _conv(channels, channels), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        return self.op(x) + x


class DenseBlock(nn.Module):
    """Three grouped convolutions, each over all earlier results; the last, weighted by 0.333, is added to the input.

    In the grouped convolutions a group sees consecutive channels of the concatenation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Wrapped(channels, channels)
        self.conv2 = _Wrapped(2 * channels, channels)
        self.conv3 = _Wrapped(3 * channels, channels)
        self.lrelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        first = self.lrelu(self.conv1(x))
        second = self.lrelu(self.conv2(torch.cat([x, first], dim=1)))
        third = self.lrelu(self.conv3(torch.cat([x, first, second], dim=1)))
        return _DENSE_SCALE * third + x


class SpatialGate(nn.Module):
    """Weigh every position by a 3x3 convolution over the features' maximum and mean over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.se = nn.Sequential(OrderedDict(spatial=nn.Sequential(OrderedDict(conv=_conv(2, 1, 3)))))

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        summary = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.se(summary))


class EcaBlock(nn.Module):
    """Weigh the channels by their neighbours' averages (ECA, arXiv 1910.03151), then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 3)
        self.se = ChannelWeights()
        self.relu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        return self.relu(self.conv1(x * self.se(x)))


class _Preprocess(nn.Module):
    """What every cell begins with: ReLU, mixing of the channels, normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), _conv(channels, channels), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ChainCell(nn.Module):
    """Operations one after the other.

    Args:
        channels: Number of channels C.
        operations: Each maps [B, C, H, W] to the same shape.
    """

    def __init__(self, channels: int, *operations: nn.Module) -> None:
        super().__init__()
        self.preprocess1 = _Preprocess(channels)
        self._ops = nn.Sequential(*map(_Operation, operations))

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        return self._ops(self.preprocess1(x))


class _BlurPool(nn.Module):
    """Halve the size after the 3x3 binomial filter (arXiv 1904.11486), which the checkpoints hold as ``filt``."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", torch.outer(taps, taps).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


class _TwoPaths(nn.Module):
    """The sum of a long and a short way to another size."""

    def __init__(self, top: nn.Sequential, bot: nn.Sequential) -> None:
        super().__init__()
        self.top = top
        self.bot = bot

    def forward(self, x: Tensor) -> Tensor:
        return self.top(x) + self.bot(x)


class _Resize(nn.Module):
    """Steps under the published name ``body``."""

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _halve(channels: int) -> _TwoPaths:
    """Halve the size, double the channels."""
    filtered = [_conv(channels, channels), nn.PReLU(), _conv(channels, channels, 3), nn.PReLU()]
    top = nn.Sequential(*filtered, _BlurPool(channels), _conv(channels, 2 * channels))
    return _TwoPaths(top, nn.Sequential(_BlurPool(channels), _conv(channels, 2 * channels)))


def _double(channels: int) -> _TwoPaths:
    """Double the size, halve the channels."""
    enlarge = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False)
    half = channels // 2
    top = nn.Sequential(_conv(channels, channels), nn.PReLU(), enlarge, nn.PReLU(), _conv(channels, half))
    smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return _TwoPaths(top, nn.Sequential(smooth, _conv(channels, half)))


class _SelectiveKernels(nn.Module):
    """Blend three features by weights per channel that add up to 1 (arXiv 2003.06792)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _KERNELS_REDUCTION
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(_conv(channels, hidden), nn.PReLU())
        self.fcs = nn.ModuleList([_conv(hidden, channels) for _ in range(3)])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, *features: Tensor) -> Tensor:
        stacked = torch.stack(features, dim=1)
        code = self.conv_du(self.avg_pool(stacked.sum(dim=1)))
        weights = self.softmax(torch.stack([fc(code) for fc in self.fcs], dim=1))
        return (stacked * weights).sum(dim=1)


class MultiScaleCell(nn.Module):
    """A residual module and a dilated convolution at full, half and quarter size, blended and added to the input.

    Args:
        channels: Number of channels C at full size; H and W must be multiples of 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.preprocess1 = _Preprocess(channels)
        self.down_2 = _Resize(_halve(channels))
        self.down_4 = _Resize(_halve(channels), _halve(2 * channels))
        self.upsample_2 = _Resize(_double(2 * channels))
        self.upsample_4 = _Resize(_double(4 * channels), _double(2 * channels))
        self.SKFF = _SelectiveKernels(channels)
        self._ops = self._operations(channels)
        self._ops_1 = self._operations(2 * channels)
        self._ops_2 = self._operations(4 * channels)

    @staticmethod
    def _operations(channels: int) -> nn.Sequential:
        return nn.Sequential(_Operation(_Residual(channels)), _Operation(DilatedConv(channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        x = self.preprocess1(x)
        half = self.upsample_2(self._ops_1(self.down_2(x)))
        quarter = self.upsample_4(self._ops_2(self.down_4(x)))
        return self.SKFF(self._ops(x), half, quarter) + x
