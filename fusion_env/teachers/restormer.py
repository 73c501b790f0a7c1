"""Building blocks of Restormer (Zamir et al., arXiv 2111.09881) that several published fusion networks share.

Layers and parameter names are those of the published checkpoints. Tensors are [B, C, H, W] of any size; the blocks
compute fastest, on a CPU, in the channels_last memory format, which the normalisation produces by itself.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "GatedFeedForward",
    "PlainFeedForward",
    "TransformerBlock",
    "attend_channels",
    "conv1x1",
    "conv3x3",
    "depthwise3x3",
]

_EXPANSION = 2


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    """Build a 1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Build a 3x3 convolution without bias that keeps the size by zero padding."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def depthwise3x3(channels: int) -> nn.Conv2d:
    """Build a 3x3 convolution of each channel by itself, without bias, that keeps the size by zero padding."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def attend_channels(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Attend from channels to channels: ``softmax(temperature * q k^T) v``, q and k scaled to length 1.

    Args:
        q: Queries [B, C, H, W]; each channel is one vector over all positions.
        k: Keys, like q.
        v: Values, like q.
        temperature: [heads, 1, 1]; each head has C // heads consecutive channels.

    Returns:
        [B, C, H, W].
    """
    heads = len(temperature)
    q_vectors, k_vectors, v_vectors = (x.unflatten(1, (heads, -1)).flatten(3) for x in (q, k, v))
    similarity = F.normalize(q_vectors, dim=-1) @ F.normalize(k_vectors, dim=-1).mT
    return ((temperature * similarity).softmax(dim=-1) @ v_vectors).view(v.shape)


class TransformerBlock(nn.Module):
    """Attention between channels, then a feed-forward part, each after a normalisation and around an identity path.

    Args:
        channels: Number of channels C.
        heads: Number of attention heads, a divisor of C.
        feed_forward: Maps [B, C, H, W] to the same shape.
        norm_scale: Whether the normalisations have a factor per channel beside their shift.
    """

    def __init__(self, channels: int, heads: int, feed_forward: nn.Module, norm_scale: bool = True) -> None:
        super().__init__()
        self.norm1 = _published_norm(channels, norm_scale)
        self.attn = _ChannelAttention(channels, heads)
        self.norm2 = _published_norm(channels, norm_scale)
        self.ffn = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class GatedFeedForward(nn.Module):
    """Two groups of 2 C channels, of which one, through GELU, gates the other.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _EXPANSION * channels
        self.project_in = conv1x1(channels, 2 * hidden)
        self.dwconv = depthwise3x3(2 * hidden)
        self.project_out = conv1x1(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class PlainFeedForward(nn.Module):
    """A bottleneck of 2 C channels without gate; its 3x3 convolution is a full one, whatever the published name says.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _EXPANSION * channels
        self.project_in = conv1x1(channels, hidden)
        self.dwconv = conv3x3(hidden, hidden)
        self.project_out = conv1x1(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, C, H, W]."""
        return self.project_out(F.gelu(self.dwconv(self.project_in(x))))


class _PositionNorm(nn.Module):
    """Normalise over the channels at each position (biased variance, eps 1e-5), then scale and shift."""

    weight: nn.Parameter | None

    def __init__(self, channels: int, scale: bool) -> None:
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if scale else None)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # Not an nn.LayerNorm: published costs do not count this layer.
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.bias.shape, self.weight, self.bias)
        return last.permute(0, 3, 1, 2)


def _published_norm(channels: int, scale: bool) -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=_PositionNorm(channels, scale)))


class _ChannelAttention(nn.Module):
    """Self-attention between the channels, whose cost grows with the number of positions only linearly."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = conv1x1(channels, 3 * channels)
        self.qkv_dwconv = depthwise3x3(3 * channels)
        self.project_out = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        return self.project_out(attend_channels(q, k, v, self.temperature))
