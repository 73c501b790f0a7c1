"""The building blocks of KDFuse; see `fusion_env.teachers.kdfuse`.

Parameter names are the published ones. Tensors are [B, C, H, W]; every block keeps H and W.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["ChannelWeights", "EdgeResidualBlock", "Enhancement", "Injection"]

_EDGES = {
    "sbx": ((1, 0, -1), (2, 0, -2), (1, 0, -1)),
    "sby": ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),
    "lpl": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
}


class _EdgeBranch(nn.Module):
    """A 1x1 convolution, then a depthwise one with a scaled edge filter, as one 3x3 convolution.

    The published network runs the two one after the other, with the first one's result padded by its bias. As that is
    its value for an input of 0, it equals a single convolution of the zero-padded input.
    """

    def __init__(self, channels: int, edge: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.k0 = nn.Parameter(torch.randn(channels, channels, 1, 1) / channels**0.5)
        self.b0 = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.full((channels, 1, 1, 1), 1e-3))
        self.bias = nn.Parameter(torch.zeros(channels))
        # A parameter although it is constant: the published size counts it.
        self.mask = nn.Parameter(torch.tensor(edge).float().repeat(channels, 1, 1, 1), requires_grad=False)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return the weight [C, C, 3, 3] and the bias [C] of the equivalent convolution."""
        filters = self.scale * self.mask
        return filters * self.k0, self.bias + self.b0 * filters.sum(dim=(1, 2, 3))


class _RepBlock(nn.Module):
    """A 3x3 convolution, the identity and three edge branches, summed and activated; run as a single convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rbr_3x3_branch = nn.Conv2d(channels, channels, 3, padding=1)
        self.rbr_conv1x1_sbx_branch = _EdgeBranch(channels, _EDGES["sbx"])
        self.rbr_conv1x1_sby_branch = _EdgeBranch(channels, _EDGES["sby"])
        self.rbr_conv1x1_lpl_branch = _EdgeBranch(channels, _EDGES["lpl"])

    def forward(self, x: Tensor) -> Tensor:
        conv = self.rbr_3x3_branch
        merged: dict[str, Tensor] = dict(conv.named_parameters())
        for branch in (self.rbr_conv1x1_sbx_branch, self.rbr_conv1x1_sby_branch, self.rbr_conv1x1_lpl_branch):
            weight, bias = branch.merged()
            merged = {"weight": merged["weight"] + weight, "bias": merged["bias"] + bias}
        # Through the module and not its function, so that cost counters see it; the identity stays outside, as a one
        # added to small weights would cost them digits.
        return F.leaky_relu(functional_call(conv, merged, (x,)) + x, 0.05)


class EdgeResidualBlock(nn.Module):
    """Three rep blocks around an identity path, then a convolution to another width.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.repblock1 = _RepBlock(inputs)
        self.repblock2 = _RepBlock(inputs)
        self.repblock3 = _RepBlock(inputs)
        self.conv3 = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        return F.leaky_relu(self.conv3(self.repblock3(self.repblock2(self.repblock1(x))) + x), 0.05)


class ChannelWeights(nn.Module):
    """Weigh the channels by their neighbours' averages (ECA, arXiv 1910.03151)."""

    def __init__(self) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, 1, 1] in 0..1."""
        return torch.sigmoid(self.conv(self.avg_pool(x).flatten(2).mT)).mT[..., None]


def _normalised(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size, and normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    return [conv, nn.BatchNorm2d(outputs)]


def _look(inputs: int, outputs: int, dilation: int) -> nn.Sequential:
    """Mix the channels, then look around with a dilated convolution."""
    mix, look = _normalised(inputs, outputs, 1), _normalised(outputs, outputs, 3, dilation)
    return nn.Sequential(*mix, nn.ReLU(), *look, nn.ReLU())


class Enhancement(nn.Module):
    """Widen features and weigh their channels by what convolutions of four dilations see.

    The published network has two more layers, ``f2_conv`` and ``conv_cat``, that it never runs; they are here for the
    checkpoint's sake.

    Args:
        inputs: Width of the input.
        outputs: Width D of the output, a multiple of 4.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_normalised(inputs, outputs, 1), nn.ReLU())
        quarter = outputs // 4
        self.branch1, self.branch2, self.branch3, self.branch4 = (
            _look(outputs, quarter, dilation) for dilation in (1, 2, 4, 8)
        )
        self.f2_conv = nn.Sequential(*_normalised(outputs, outputs, 3))
        self.conv_cat = nn.Sequential(*_normalised(4 * outputs, outputs // 2, 1))
        self.ca = ChannelWeights()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, D, H, W]."""
        wide = self.conv1(x)
        seen = torch.cat([branch(wide) for branch in (self.branch1, self.branch2, self.branch3, self.branch4)], dim=1)
        return wide * self.ca(seen + wide) + wide


class _LargeKernelGate(nn.Module):
    """Weights in 0..1 from a large neighbourhood of both features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        both = 2 * channels
        self.conv0 = nn.Conv2d(both, both, 5, padding=2, groups=both)
        self.conv_spatial = nn.Conv2d(both, both, 5, padding=6, dilation=3, groups=both)
        self.conv1 = nn.Conv2d(both, both, 1)
        self.conv1x1 = nn.Conv2d(both, channels, 1)

    def forward(self, both: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1x1(self.conv1(self.conv_spatial(self.conv0(both)))))


class _AxisGate(nn.Module):
    """Weights in 0..1 from the outer product of the features' averages over rows and over columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.conv1 = nn.Sequential(*_normalised(channels, narrow, 7), nn.ReLU())
        self.over_columns = nn.AdaptiveAvgPool2d((None, 1))
        self.over_rows = nn.AdaptiveAvgPool2d((1, None))
        self.conv2 = nn.Sequential(*_normalised(narrow, channels, 7), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(self.over_columns(x) * self.over_rows(x))


class Injection(nn.Module):
    """Let semantic features weigh the positions and channels of fusion features.

    Args:
        semantic: Width of the semantic features.
        channels: Width C of the fusion features.
    """

    def __init__(self, semantic: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(semantic, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.attn = _LargeKernelGate(channels)
        self.ca = ChannelWeights()
        self.sa = _AxisGate(channels)

    def forward(self, semantic: Tensor, fusion: Tensor) -> Tensor:
        """Map [B, semantic, H, W] and [B, C, H, W] to [B, C, H, W]."""
        semantic = self.conv(semantic)
        weight = self.attn(torch.cat([semantic, fusion], dim=1))
        positions = weight * fusion
        return positions * self.sa(positions) + fusion * self.ca((1 - weight) * semantic)
