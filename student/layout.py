"""Layers applied so that channels-last maps stay in their order of memory on CUDA.

PyTorch's kernels for reflection padding and instance normalisation read and write NCHW there, whatever they are given:
each copies its input, and the next convolution copies its output back. Here padding is one copy and some borders, and
normalisation is sums, then one scale and shift: less to move, but more kernels to launch, so that it is done to large
maps only. Everywhere else, and for one channel, which is in either order, layers do what they always do.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LARGE", "arranged", "instance_norm", "is_channels_last", "join", "keeps_order", "reflect", "run"]

LARGE = 2**22
"""Numbers in a map from which on it stays in its order.

An estimate for an H100 (3 TB/s, 4 us a kernel in a captured round): a normalisation moves its map five times less, and
takes nine kernels more, forwards and backwards.
"""

N = TypeVar("N", bound=nn.Module)


def is_channels_last(x: Tensor) -> bool:
    """Tell whether maps [B, C, H, W] are in channels-last order and in no other."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def arranged(network: N, device: torch.device) -> N:
    """Move a network to a device, and bring its weights into the order that convolutions there like best."""
    moved = network.to(device)
    if device.type == "cuda":
        moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def join(maps: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Join maps [B, C, H, W] along their channels, in the order of memory of the weight that they will meet."""
    if is_channels_last(weight):
        maps = [_as_channels_last(x) if x.shape[1] == 1 else x for x in maps]
    return torch.cat(list(maps), dim=1)


def run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Apply layers one after the other, to maps in either order of memory; one channel takes that of the weights."""
    layers = list(layers)
    for layer in layers:
        if x.shape[1] == 1 and _matters(x) and isinstance(layer, nn.Conv2d) and _any_channels_last(layers):
            x = layer(_as_channels_last(x))
        elif keeps_order(x) and isinstance(layer, nn.ReflectionPad2d):
            x = reflect(x, layer.padding[0])
        elif keeps_order(x) and isinstance(layer, nn.InstanceNorm2d):
            x = instance_norm(x, layer.eps)
        elif isinstance(layer, nn.InstanceNorm2d) and x.requires_grad and len(x) == 1:
            # PyTorch (2.14) sends the one sample through a view, after which its gradient of a channels-last map is
            # wrong on a CPU. Batch normalisation of one sample is the same, and needs no view.
            x = F.batch_norm(x, None, None, training=True, eps=layer.eps)
        else:
            x = layer(x)
    return x


def keeps_order(x: Tensor) -> bool:
    """Tell whether maps are large enough, and where it matters, to stay in their order by what is here.

    A compiler arranges PyTorch's layers itself, and `torch.func` transforms those only.
    """
    return _matters(x) and x.numel() >= LARGE and is_channels_last(x)


def _on_a_gpu(x: Tensor) -> bool:
    return x.is_cuda


def _matters(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return _on_a_gpu(x)


def _any_channels_last(layers: Iterable[nn.Module]) -> bool:
    return any(is_channels_last(p) for layer in layers for p in layer.parameters(recurse=False) if p.ndim == 4)


def _as_channels_last(x: Tensor) -> Tensor:
    """View one channel as channels-last: it is in either order, but counts as what its strides say."""
    return x.squeeze(1).unsqueeze(-1).movedim(-1, 1)


def reflect(x: Tensor, margin: int) -> Tensor:
    """Pad channels-last maps by reflection, to channels-last ones; H and W larger than the margin."""
    return _Reflected.apply(x, margin)


def instance_norm(x: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each sample of channels-last maps, in float32 whatever their dtype."""
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return _InstanceNorm.apply(wide, eps)[0].to(x.dtype)


class _Reflected(torch.autograd.Function):
    """Rows first, then columns, so that corners are reflections of reflections; back in the other order."""

    @staticmethod
    def forward(x: Tensor, margin: int) -> Tensor:
        batch, channels, height, width = x.shape
        size = (batch, channels, height + 2 * margin, width + 2 * margin)
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        out[:, :, margin:-margin, margin:-margin] = x
        for dim in (2, 3):
            for border, inside in _mirrored(out, dim, margin):
                border.copy_(_turned(inside, dim))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.margin = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        margin = ctx.margin
        folded = gradient.clone(memory_format=torch.channels_last)
        for dim in (3, 2):
            for border, inside in _mirrored(folded, dim, margin):
                inside.add_(_turned(border, dim))
        return folded[:, :, margin:-margin, margin:-margin], None


def _mirrored(padded: Tensor, dim: int, margin: int) -> list[tuple[Tensor, Tensor]]:
    """Return both borders along a dimension, each with what it mirrors."""
    end = padded.shape[dim]
    return [
        (padded.narrow(dim, 0, margin), padded.narrow(dim, margin + 1, margin)),
        (padded.narrow(dim, end - margin, margin), padded.narrow(dim, end - 2 * margin - 1, margin)),
    ]


def _turned(side: Tensor, dim: int) -> Tensor:
    return side.flip(dim) if side.shape[dim] > 1 else side


class _InstanceNorm(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps), sample by sample and channel by channel.

    With s the inverse of the divisor and g the gradient of y, that of x is s (g - mean(g) - y mean(g y)).
    """

    @staticmethod
    def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        scale = variance.add_(eps).rsqrt_()
        return torch.addcmul(torch.mul(mean, scale).neg_(), x, scale), mean, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, _ = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, mean, scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        x, mean, scale = ctx.saved_tensors
        centred = x - mean
        slope = (gradient * centred).mean((2, 3), keepdim=True).mul_(scale.pow(3)).neg_()
        constant = gradient.mean((2, 3), keepdim=True).mul_(scale).neg_()
        return torch.addcmul(constant, centred, slope).addcmul_(gradient, scale), None
