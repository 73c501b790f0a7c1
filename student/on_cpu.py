"""The student's forward pass as a CPU likes it: the same function and gradients, in fewer passes over memory.

A profile of the plain layers on a CPU shows three that take several times as long as their multiplications:

- A transposed convolution runs outside oneDNN. Its output is also the gradient of an ordinary convolution by its input,
  which runs inside.
- The last convolution has one output channel, so that 15 of 16 lanes of a vector unit idle. Its seven columns become
  seven channels, which are then added, each shifted; what the final crop drops is not computed.
- Instance normalisation copies channels-last maps to and fro, and its gradient is wrong for one such map alone
  (PyTorch 2.14). Here it is sums, then one scale and shift.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from student.network import FusionStudent, _ResidualBlock, check_pair

__all__ = ["fuse_on_cpu", "quickest"]

_LAST = torch.channels_last
_KERNEL = 7
_MARGIN = _KERNEL // 2


def fuse_on_cpu(student: FusionStudent, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Fuse like ``student(ir=ir, vis=vis)`` but for rounding, with gradients for its parameters.

    Args:
        student: On the CPU, in channels-last memory order; in any other it is slower, not wrong.
        ir: Infrared, [B, 1, H, W] in 0..1.
        vis: Visible luma, same shape.

    Returns:
        Fused luma, [B, 1, H, W] in 0..1.

    Raises:
        ValueError: If the shapes are wrong; see `student.network.check_pair`.
    """
    check_pair(ir=ir, vis=vis)
    encoder, (*ups, _, last) = student.encoder, student.decoder.model_up
    codes = [_run(encoder.content_encoder1.model, vis), _run(encoder.content_encoder2.model, ir)]
    x = _run(ups, torch.cat(codes, dim=1))
    return torch.sigmoid(_LastConvolution.apply(x, last.weight, *ir.shape[-2:]) + last.bias)


def quickest(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the quickest way to call ``network(ir=ir, vis=vis)``, with gradients and outside autocast.

    That is `fuse_on_cpu` for a student on a CPU, and the network itself for anything else.
    """
    if isinstance(network, FusionStudent) and next(network.parameters()).is_cpu:
        return partial(fuse_on_cpu, network)
    return network


def _run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, nn.InstanceNorm2d):
            x = _InstanceNorm.apply(x, layer.eps)
        elif isinstance(layer, nn.ConvTranspose2d):
            x = _Transposed.apply(x, layer.weight, layer.bias)
        elif isinstance(layer, _ResidualBlock):
            x = x + _run(layer.block, x)
        else:
            x = layer(x)
    return x


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a convolution without bias and padding by its input and by its weight, where wanted."""
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    return of_x, of_weight


class _Transposed(torch.autograd.Function):
    """A 5x5 transposed convolution with stride 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch, _, height, width = x.shape
        size = (batch, len(bias), 2 * height + 3, 2 * width + 3)
        only_its_shape = torch.empty(size, dtype=x.dtype, memory_format=_LAST)
        out, _ = _gradients(x, only_its_shape, weight, 2, (True, False))
        return out.add_(bias.view(1, -1, 1, 1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        _, of_weight = _gradients(x, gradient, weight, 2, (False, True))
        return F.conv2d(gradient, weight, stride=2), of_weight, gradient.sum((0, 2, 3))


class _InstanceNorm(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps), sample by sample and channel by channel.

    With s the inverse of the divisor and g the gradient of y, that of x is s (g - mean(g) - y mean(g y)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        mean = _mean(x)
        scale = (_mean(x * x) - mean.square()).clamp_min(0).add(eps).rsqrt()
        ctx.save_for_backward(x, mean, scale)
        return torch.addcmul(_as_map(-mean * scale, x), x, _as_map(scale, x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, mean, scale = ctx.saved_tensors
        mean_gradient = _mean(gradient)
        slope = -(scale**3) * (_mean(gradient * x) - mean * mean_gradient)
        constant = -scale * mean_gradient - slope * mean
        of_x = torch.addcmul(_as_map(constant, x), x, _as_map(slope, x))
        return of_x.addcmul_(gradient, _as_map(scale, x)), None


def _mean(x: Tensor) -> Tensor:
    """Return each channel's mean, float64 [B, C]; channels-last maps are quickest."""
    return x.permute(0, 2, 3, 1).sum(2).double().sum(1) / (x.shape[2] * x.shape[3])


def _as_map(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, :, None, None]


class _LastConvolution(torch.autograd.Function):
    """Reflection by three, a 7x7 convolution to one channel without bias, and the top-left corner of that."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
        seen = x[:, :, : height + _MARGIN, : width + _MARGIN]
        bordered = F.pad(seen, (_MARGIN, 0, _MARGIN, 0), mode="reflect").contiguous(memory_format=_LAST)
        ctx.save_for_backward(bordered, weight)
        ctx.shape = x.shape
        parts = F.conv2d(bordered, _columns(weight))
        out = parts[:, :1, :, :width].clone(memory_format=torch.contiguous_format)
        for shift in range(1, _KERNEL):
            out += parts[:, shift : shift + 1, :, shift : shift + width]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        bordered, weight = ctx.saved_tensors
        batch, _, height, width = gradient.shape
        parts = _zeros((batch, _KERNEL, height, bordered.shape[3]), gradient)
        for shift in range(_KERNEL):
            parts[:, shift : shift + 1, :, shift : shift + width] = gradient
        of_bordered, of_columns = _gradients(parts, bordered, _columns(weight), 1, (True, True))
        for dim in (2, 3):
            lines = of_bordered.movedim(dim, 0)
            for step in range(1, _MARGIN + 1):
                lines[_MARGIN + step] += lines[_MARGIN - step]
        of_x = _zeros(ctx.shape, gradient)
        of_x[:, :, : height + _MARGIN, : width + _MARGIN] = of_bordered[:, :, _MARGIN:, _MARGIN:]
        return of_x, of_columns.permute(3, 1, 2, 0), None, None


def _columns(weight: Tensor) -> Tensor:
    """Turn a weight [1, C, rows, columns] into [columns, C, rows, 1]."""
    return weight.permute(3, 1, 2, 0).contiguous(memory_format=_LAST)


def _zeros(size: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(size, dtype=like.dtype, memory_format=_LAST).zero_()
