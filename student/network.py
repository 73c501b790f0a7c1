"""The fusion student of AgentFuse and the building blocks that it shares with its teacher, LDFusion.

Layers, parameter names and quirks follow the published networks (arXiv 2509.02424; github.com/wyhlaowang/AgentFuse and
LDFusion), biases included, so that official weights load strictly. No module keeps anything from its forward pass.
"""

from typing import Any

import torch
from torch import Tensor, nn

from student.exposure import with_exposure_of
from student.layout import run

__all__ = [
    "MIN_SIZE",
    "ContentEncoder",
    "FusionStudent",
    "PairEncoder",
    "SampleLayerNorm",
    "UpsamplingDecoder",
    "check_pair",
    "sigmoid",
]

MIN_SIZE = 16
"""Smallest height and width in pixels: three halvings leave 2x2, the least that reflection padding by one accepts."""

_DOWNSAMPLINGS = 3
_RESIDUAL_BLOCKS = 2


def check_pair(*, ir: Tensor, vis: Tensor) -> None:
    """Check that two tensors are an aligned pair of single-channel images that the networks can process.

    Args:
        ir: Infrared, [B, 1, H, W].
        vis: Visible luma, [B, 1, H, W].

    Raises:
        ValueError: If a shape is not [B, 1, H, W], the shapes differ, or H or W is below `MIN_SIZE`.
    """
    for name, image in (("ir", ir), ("vis", vis)):
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(f"{name} must have shape [B, 1, H, W]. Got {tuple(image.shape)}; pass luma, not RGB.")
    if ir.shape != vis.shape:
        raise ValueError(
            f"ir and vis must have the same shape. Got {tuple(ir.shape)} and {tuple(vis.shape)}; "
            "register and crop the pair first."
        )
    if min(ir.shape[-2:]) < MIN_SIZE:
        raise ValueError(f"Height and width must be at least {MIN_SIZE} pixels. Got {tuple(ir.shape[-2:])}.")


class SampleLayerNorm(nn.Module):
    """Normalise each sample over all of C, H, W, then scale and shift each channel.

    y = gamma (x - mean) / (std + eps) + beta with the unbiased standard deviation and eps added to the deviation, as
    published. Statistics are taken in float32 whatever the input's dtype; the output has the input's dtype.

    Args:
        channels: Number of channels C.
        eps: Added to the standard deviation.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape [B, C, H, W]."""
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        # Either layout of memory stays as it is.
        last = wide.stride(1) == 1
        wide = wide.movedim(1, -1).contiguous().movedim(-1, 1) if last else wide.contiguous()
        normalise = _FusedNorm if wide.device.type == "cpu" else _ParallelNorm
        return normalise.apply(wide, self.gamma.to(wide.dtype), self.beta.to(wide.dtype), self.eps)[0].to(x.dtype)


class _SampleNorm(torch.autograd.Function):
    """The published formula; subclasses differ in what is fast where, not in what they compute.

    With d = std + eps, z = (x - mean) / d and g the gradient of y times gamma, that of x is, sample by sample,
    (g - mean(g)) / d - z sum(g z) / ((n - 1) std). The last term is 0 for a flat sample, whose z is 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, gamma, _, eps = inputs
        _, mean, std = output
        ctx.mark_non_differentiable(mean, std)
        ctx.save_for_backward(x, gamma, mean, std)
        ctx.eps = eps


class _FusedNorm(_SampleNorm):
    """On a CPU: group normalisation with one group, whose kernels are several times faster than separate operations."""

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        batch, channels, height, width = x.shape
        count = channels * height * width
        # It divides by sqrt(biased variance + eps^2), which is brought to the published divisor.
        out, mean, inverse = torch.native_group_norm(x, gamma, None, batch, channels, height * width, 1, eps**2)
        divisor = inverse.reciprocal()
        std = ((divisor.square() - eps**2).clamp_min(0) * (count / (count - 1))).sqrt()
        ratio = divisor / (std + eps)
        return torch.addcmul(beta.view(1, -1, 1, 1), out, ratio.view(-1, 1, 1, 1)), mean, std

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, gamma, mean, std = ctx.saved_tensors
        batch, channels, height, width = x.shape
        count = channels * height * width
        divisor = std + ctx.eps
        # Its gradient has 1 / s in the first term and 1 / (n s^3) in the last for a divisor s. With a gradient a times
        # as large, a / s and a / s^3 can be what the published ones need: 1 / d and n / ((n - 1) d^2 std).
        squared = torch.where(std > 0, divisor * std * ((count - 1) / count), divisor.square())
        inverse = squared.rsqrt()
        scaled = gradient * (1 / (divisor * inverse)).view(-1, 1, 1, 1)
        of_x, of_gamma, _ = torch.ops.aten.native_group_norm_backward(
            scaled, x, mean, inverse, gamma, batch, channels, height * width, 1, [True, True, False]
        )
        return of_x, of_gamma, gradient.sum((0, 2, 3)), None


class _ParallelNorm(_SampleNorm):
    """On a GPU: reductions that all of its processors share; group normalisation would keep one for each sample."""

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        std, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
        scale = gamma.view(1, -1, 1, 1) / (std + eps)
        return torch.addcmul(torch.addcmul(beta.view(1, -1, 1, 1), mean, scale, value=-1), x, scale), mean, std

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, gamma, mean, std = ctx.saved_tensors
        gamma = gamma.view(1, -1, 1, 1)
        count = x.shape[1] * x.shape[2] * x.shape[3]
        divisor = std + ctx.eps
        centred = x - mean
        sums = gradient.sum((2, 3), keepdim=True)
        products = (gradient * centred).sum((2, 3), keepdim=True) / divisor  # of g and z
        constant = (gamma * sums).sum(1, keepdim=True) / (-count * divisor)
        last = (gamma * products).sum(1, keepdim=True) / ((1 - count) * std * divisor)
        of_x = torch.addcmul(constant, centred, torch.where(std > 0, last, 0)).addcmul_(gradient, gamma / divisor)
        return of_x, products.sum((0, 2, 3)), sums.sum((0, 2, 3)), None


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation around an identity path, no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus its residual, same shape."""
        return x + run(self.block, x)


class ContentEncoder(nn.Module):
    """Encode one single-channel image into 8 * width feature maps of an eighth of its size.

    Reflection-padded 7x7 convolution, three stride-2 4x4 convolutions that double the width, two residual blocks;
    instance normalisation after every convolution.

    Args:
        width: Channels of the first convolution (LDFusion 16, the published student 8).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), *_conv_block(1, width, kernel=7, stride=1, padding=0)]
        for _ in range(_DOWNSAMPLINGS):
            layers += _conv_block(width, 2 * width, kernel=4, stride=2, padding=1)
            width *= 2
        layers += [_ResidualBlock(width) for _ in range(_RESIDUAL_BLOCKS)]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Encode ``image`` [B, 1, H, W] to [B, 8 * width, H // 8, W // 8]."""
        return run(self.model, image)


def _conv_block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
    """List convolution, instance normalisation and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding),
        nn.InstanceNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class PairEncoder(nn.Module):
    """Encode an infrared and a visible image with one content encoder each.

    Args:
        width: Channels of the first convolution of both encoders.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content_encoder1 = ContentEncoder(width)
        self.content_encoder2 = ContentEncoder(width)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return both content codes, visible first as published: [B, 16 * width, H // 8, W // 8]."""
        return torch.cat([self.content_encoder1(vis), self.content_encoder2(ir)], dim=1)


class UpsamplingDecoder(nn.Module):
    """Turn content codes into one image, before the output activation.

    Three times a 5x5 stride-2 transposed convolution that halves the width, `SampleLayerNorm` and ReLU; then a
    reflection-padded 7x7 convolution to one channel. Each stage maps n to 2 n + 3 pixels, so that the result is larger
    than the encoded image; the top-left corner is the image.

    Args:
        channels: Channels of the incoming code, divisible by 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_DOWNSAMPLINGS):
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 5, stride=2),
                SampleLayerNorm(channels // 2),
                nn.ReLU(inplace=True),
            ]
            channels //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(channels, 1, 7)]
        self.model_up = nn.Sequential(*layers)

    def forward(self, content: Tensor) -> Tensor:
        """Decode ``content`` [B, channels, h, w] to [B, 1, 8 h + 21, 8 w + 21]."""
        return run(self.model_up, content)


def sigmoid(logits: Tensor) -> Tensor:
    """Return the sigmoid, of 16 bits in float32: float16 has no levels between 0.9995 and 1, bfloat16 from 0.996 on."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()


class FusionStudent(nn.Module):
    """Fuse infrared and visible luma with a small network: the student of AgentFuse (arXiv 2509.02424).

    Two content encoders and the up-sampling decoder of LDFusion, without style branch and adaptive normalisation, with
    a sigmoid output. Width 8 has 0.652385 M parameters and 2.7064 G multiply-adds (thop) at 224x224. The networks
    normalise over the whole input, so that a crop of the fused image is not the fused crop.

    Args:
        width: Channels of the encoders' first convolution, at least 1; 8 is the published, pruned student and 16 the
            unpruned one.

    Attributes:
        exposure_of_sources: Whether the fused image gets its sources' brightness and contrast (`with_exposure_of`). As
            published it does not: the first thing the encoders do is to take out those of either input.

    Raises:
        ValueError: If ``width`` is below 1.
    """

    def __init__(self, width: int = 8) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1. Got {width}.")
        super().__init__()
        self.width = width
        self.exposure_of_sources = False
        self.encoder = PairEncoder(width)
        self.decoder = UpsamplingDecoder(16 * width)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse a batch of registered pairs.

        Args:
            ir: Infrared, [B, 1, H, W] in 0..1, H and W at least `MIN_SIZE`.
            vis: Visible luma, same shape and range.

        Returns:
            Fused luma, [B, 1, H, W] in 0..1; in float32 where the network computes in 16 bits.

        Raises:
            ValueError: If the shapes are wrong; see `check_pair`.
        """
        height, width = ir.shape[-2:]
        return self.exposed(self.forward_raw(ir=ir, vis=vis)[..., :height, :width], ir=ir, vis=vis)

    def forward_raw(self, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse like `forward`, without the crop and `exposed`.

        Returns:
            [B, 1, 8 (H // 8) + 21, 8 (W // 8) + 21]; in float32 where the network computes in 16 bits.
        """
        check_pair(ir=ir, vis=vis)
        return sigmoid(self.decoder(self.encoder(ir=ir, vis=vis)))

    def exposed(self, fused: Tensor, *, ir: Tensor, vis: Tensor) -> Tensor:
        """Give a fused image [B, 1, H, W] its sources' brightness and contrast, if `exposure_of_sources`."""
        return with_exposure_of(fused, ir=ir, vis=vis) if self.exposure_of_sources else fused
