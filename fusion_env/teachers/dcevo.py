"""DCEvo: a shared encoder into low and high frequencies, one fusion extractor for each, and a decoder.

Layers and parameter names follow the pure fusion model of github.com/Beate-Suy-Zhang/DCEvo, so that its official
weights load strictly.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_env.teachers.base import Published
from fusion_env.teachers.published import OfficialFile, PublishedTeacher, check_names, check_tensors, load_part
from fusion_env.teachers.registry import register
from fusion_env.teachers.restormer import GatedFeedForward, TransformerBlock, conv1x1, conv3x3, depthwise3x3

__all__ = ["DCEvo", "emphasise", "simam"]

_WIDTH = 64
_HALF = _WIDTH // 2
_HEADS = 8
_DEPTH = 5
_BOTTLENECKS = 6
_DETAIL_NODES = 3
_SIMAM_EPS = 1e-4


def emphasise(x: Tensor) -> Tensor:
    """Weight positions by how far they stand out: ``silu(x * sigmoid(y^2 / mean(y)))`` with ``y = sigmoid(x)``.

    Args:
        x: [B, C, H, W]; the mean is over the positions of each channel.

    Returns:
        [B, C, H, W].
    """
    y = torch.sigmoid(x)
    return F.silu(x * torch.sigmoid(y.square() / y.mean(dim=(2, 3), keepdim=True)))


def simam(x: Tensor) -> Tensor:
    """Weight positions by SimAM (Yang et al., ICML 2021): ``x * sigmoid(d / (4 (var + 1e-4)) + 0.5)``.

    Args:
        x: [B, C, H, W] with more than one position; d is the squared distance from the mean over the positions of each
            channel, var the unbiased variance.

    Returns:
        [B, C, H, W].
    """
    d = (x - x.mean(dim=(2, 3), keepdim=True)).square()
    var = d.sum(dim=(2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(d / (4 * (var + _SIMAM_EPS)) + 0.5)


class _ConvSiLU(nn.Module):
    """A convolution and SiLU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


class _Bottleneck(nn.Module):
    """A full and a depthwise 3x3 convolution around an identity path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = _ConvSiLU(conv3x3(channels, channels))
        self.cv2 = _ConvSiLU(depthwise3x3(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


class _SplitChain(nn.Module):
    """A chain of bottlenecks on half the channels; every link of the chain reaches the output."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1 = _ConvSiLU(conv1x1(_WIDTH, _WIDTH))
        self.cv2 = _ConvSiLU(conv1x1((2 + _BOTTLENECKS) * _HALF, _WIDTH))
        self.m = nn.ModuleList(_Bottleneck(_HALF) for _ in range(_BOTTLENECKS))

    def forward(self, x: Tensor) -> Tensor:
        links = list(self.cv1(x).chunk(2, dim=1))
        for bottleneck in self.m:
            links.append(bottleneck(links[-1]))
        return x + emphasise(self.cv2(torch.cat(links, dim=1)))


class _LowFrequencies(nn.Module):
    """Extract or fuse low-frequency features: two split chains."""

    def __init__(self) -> None:
        super().__init__()
        self.net1 = _SplitChain()
        self.net2 = _SplitChain()

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, 64, H, W]."""
        return self.net2(self.net1(x))


class _DetailBranch(nn.Module):
    """Two times a 1x1 and a depthwise 3x3 convolution, with reflection padding."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            depthwise = nn.Conv2d(_HALF, _HALF, 3, groups=_HALF, bias=False)
            layers += [conv1x1(_HALF, _HALF), nn.ReLU6(), nn.ReflectionPad2d(1), depthwise, nn.ReLU6()]
        self.bottleneckBlock = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.bottleneckBlock(x)


class _DetailNode(nn.Module):
    """Affine coupling of two halves of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.theta_phi = _DetailBranch()
        self.theta_rho = _DetailBranch()
        self.theta_eta = _DetailBranch()
        self.shffleconv = nn.Conv2d(_WIDTH, _WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        z1, z2 = self.shffleconv(x).chunk(2, dim=1)
        z2 = z2 + self.theta_phi(z1)
        z1 = z1 * torch.exp(self.theta_rho(z2)) + self.theta_eta(z2)
        return torch.cat([simam(z1), simam(z2)], dim=1)


class _HighFrequencies(nn.Module):
    """Extract or fuse high-frequency features: three detail nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*(_DetailNode() for _ in range(_DETAIL_NODES)))

    def forward(self, x: Tensor) -> Tensor:
        """Transform [B, 64, H, W]."""
        return self.net(x)


class _Encoder(nn.Module):
    """Encode one image, infrared or visible, into low- and high-frequency features."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(OrderedDict(proj=conv3x3(1, _WIDTH)))
        self.encoder_level1 = nn.Sequential(*(_LowFrequencies() for _ in range(_DEPTH)))
        self.baseFeature = _LowFrequencies()
        self.detailFeature = _HighFrequencies()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return low- and high-frequency features, [B, 64, H, W] each, of ``image`` [B, 1, H, W]."""
        base = self.encoder_level1(self.patch_embed(image))
        return self.baseFeature(base), self.detailFeature(base)


class _EmphasisedBlock(TransformerBlock):
    """A transformer block whose two branches are emphasised before they are added."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + emphasise(self.attn(self.norm1(x)))
        return x + emphasise(self.ffn(self.norm2(x)))


class _Decoder(nn.Module):
    """Decode the fused features, starting from the mean of the two images."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce_channel = conv1x1(2 * _WIDTH, _WIDTH)
        self.encoder_level2 = nn.Sequential(*(_LowFrequencies() for _ in range(_DEPTH)))
        self.output = nn.Sequential(
            _EmphasisedBlock(_WIDTH, _HEADS, GatedFeedForward(_WIDTH), norm_scale=False),
            nn.ReflectionPad2d(1),
            nn.Conv2d(_WIDTH, _HALF, 3, bias=False),
            nn.LeakyReLU(0.01),
            nn.ReflectionPad2d(1),
            nn.Conv2d(_HALF, 1, 3, bias=False),
        )

    def forward(self, mean: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Decode to [B, 1, H, W] in 0..1."""
        x = self.encoder_level2(self.reduce_channel(torch.cat([low, high], dim=1)))
        return torch.sigmoid(self.output(x) + mean)


@register("dcevo")
class DCEvo(PublishedTeacher):
    """The DCEvo fusion network: 2.004904 M parameters, 149.0685 G multiply-adds (thop) at 224x224.

    The published 2.97 M parameters count the encoder, which both images share, twice. Pre-processing is the official
    one, but for rounding: visible luma Y = 0.299 R + 0.587 G + 0.114 B and infrared, both in 0..1, where the official
    script rounds the luma to 8 bits. The network is exactly symmetric in the two images.

    Before the last sigmoid the mean of each pair's own images is added. The official decoder does so for single pairs
    only, for which its script is written: in a batch it adds the mean of the first two samples to all.
    """

    published = Published(
        summary="DCEvo: low- and high-frequency extractors, pure fusion model",
        repository="github.com/Beate-Suy-Zhang/DCEvo",
        licence="none stated (all rights reserved)",
        files=("DCEvo_fusion.pth",),
    )

    smallest = 2

    def __init__(self) -> None:
        super().__init__()
        self.DE_Encoder = _Encoder()
        self.DE_Decoder = _Decoder()
        self.LowFreqExtractor = _LowFrequencies()
        self.HighFreqExtractor = _HighFrequencies()

    def load_official(self, files: Mapping[str, OfficialFile]) -> None:
        """Load the four parts, saved from parallel training; see `PublishedTeacher.load_official`."""
        (file,) = files.values()
        parts = dict(self.named_children())
        check_names(file.content, parts, "entries", str(file.path))
        for name, part in parts.items():
            source = f"{file.path}, entry {name}"
            state = check_tensors(file.content[name], source)
            load_part(part, {key.removeprefix("module."): value for key, value in state.items()}, source)

    def fuse_luma(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse [B, 1, H, W] images in 0..1, H and W at least 2; see `Teacher.fuse_luma`."""
        low_ir, high_ir = self.DE_Encoder(ir)
        low_vis, high_vis = self.DE_Encoder(vis)
        low = self.LowFreqExtractor(low_ir + low_vis)
        high = self.HighFreqExtractor(high_ir + high_vis)
        return self.DE_Decoder(0.5 * vis + 0.5 * ir, low, high)
