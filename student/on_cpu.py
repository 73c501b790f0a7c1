"""The student's forward pass as a CPU likes it: the same function and gradients, in fewer passes over memory.

A profile of the plain layers on a CPU shows three that take several times as long as their multiplications:

- A transposed convolution runs outside oneDNN. Its output is also the gradient of an ordinary convolution by its input,
  which runs inside.
- The last convolution has one output channel, so that 15 of 16 lanes of a vector unit idle. The pixels of a square of
  4x4 become 16 channels, at twice the multiplications; what the final crop drops is not computed.
- Normalisations copy channels-last maps to and fro. Here they centre a map where it lies, then scale it.

Fresh memory, which the system hands out page by page, took a quarter of the time of a megapixel image. Where no
gradient is wanted, maps are therefore normalised in place, and the last one, the largest, is read strip by strip.

It cannot be differentiated twice, nor mapped over by ``torch.func``; the student itself can.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from student.network import (
    FusionStudent,
    PairEncoder,
    SampleLayerNorm,
    UpsamplingDecoder,
    _ResidualBlock,
    check_pair,
    sigmoid,
)

__all__ = ["decode_on_cpu", "encode_on_cpu", "fuse_on_cpu", "quickest"]

_LAST = torch.channels_last
_MARGIN = 3
"""Half the kernel of the last convolution."""
_SQUARE = 4
_STRIP_ROWS = 32
"""Of the last map, at least, that are read at once; in so many there is all that a border repeats."""
_STRIP_NUMBERS = 2**18
"""Of other maps, that are squared at once: they stay in the processor's cache."""


def fuse_on_cpu(student: FusionStudent, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Fuse like ``student(ir=ir, vis=vis)`` but for rounding, with gradients for its parameters.

    Args:
        student: Of 32 or 64 bits, on the CPU, in channels-last memory order; in any other it is slower, not wrong.
        ir: Infrared, [B, 1, H, W] in 0..1.
        vis: Visible luma, same shape.

    Returns:
        Fused luma, [B, 1, H, W] in 0..1.

    Raises:
        ValueError: If the shapes are wrong; see `student.network.check_pair`.
    """
    check_pair(ir=ir, vis=vis)
    content = encode_on_cpu(student.encoder, ir=ir, vis=vis)
    fused = sigmoid(decode_on_cpu(student.decoder, content, ir.shape[-2:]))
    return student.exposed(fused, ir=ir, vis=vis)


def encode_on_cpu(encoder: PairEncoder, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Encode like ``encoder(ir=ir, vis=vis)``."""
    codes = [_run(encoder.content_encoder1.model, vis), _run(encoder.content_encoder2.model, ir)]
    return torch.cat(codes, dim=1)


def decode_on_cpu(decoder: UpsamplingDecoder, content: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Decode like ``decoder(content)``; with a height and a width only the top left of it."""
    *stages, up, norm, _, _, last = decoder.model_up
    assert isinstance(up, nn.ConvTranspose2d)
    assert up.bias is not None
    assert isinstance(norm, SampleLayerNorm)
    assert isinstance(last, nn.Conv2d)
    x = content
    for earlier, its_norm in zip(stages[::3], stages[1::3], strict=True):
        assert isinstance(earlier.bias, Tensor)
        assert isinstance(its_norm, SampleLayerNorm)
        x = _normalised(_Transposed.apply(x, earlier.weight), earlier.bias, its_norm)
    x = _Transposed.apply(x, up.weight)
    height, width = size or x.shape[-2:]
    rows, columns = (-(-side // _SQUARE) * _SQUARE for side in (height, width))
    if torch.is_grad_enabled():
        end = (rows + _MARGIN, columns + _MARGIN)
        x = _SampleNorm.apply(x, up.bias, norm.gamma, norm.beta, norm.eps, end, _MARGIN)
        x = _convolve_to_one(x, _kernels(last.weight), last.bias)
    else:
        x = _in_strips(x, up.bias, norm, last, rows, columns)
    return x[..., :height, :width]


def quickest(network: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the quickest way to call ``network(ir=ir, vis=vis)``, with gradients and outside autocast.

    That is `fuse_on_cpu` for a student of 32 or 64 bits on a CPU, and the network itself for anything else.
    """
    if isinstance(network, FusionStudent):
        parameter = next(network.parameters())
        if parameter.is_cpu and parameter.dtype in (torch.float32, torch.float64):
            return partial(fuse_on_cpu, network)
    return network


def _run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, nn.InstanceNorm2d):
            x = _InstanceNorm.apply(x, layer.eps) if torch.is_grad_enabled() else _instance_norm_(x, layer.eps)
        elif isinstance(layer, _ResidualBlock):
            x = x + _run(layer.block, x)
        else:
            x = layer(x)
    return x


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """Return the gradients of a convolution with stride 2 by its input and by its weight, where wanted."""
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    return of_x, of_weight


class _Transposed(torch.autograd.Function):
    """A 5x5 transposed convolution with stride 2, without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch, _, height, width = x.shape
        size = (batch, weight.shape[1], 2 * height + 3, 2 * width + 3)
        only_its_shape = torch.empty(size, dtype=x.dtype, memory_format=_LAST)
        return _gradients(x, only_its_shape, weight, (True, False))[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        _, of_weight = _gradients(x, gradient, weight, (False, True))
        return F.conv2d(gradient, weight, stride=2), of_weight


class _InstanceNorm(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps), sample by sample and channel by channel; ``x`` is overwritten.

    With s the inverse of the divisor, c = x - mean and g the gradient of y, that of x is
    s (g - mean(g) - s^2 c mean(g c)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        centred = x.sub_(_mean(x))
        out = centred.square()
        scale = (_mean(out) + eps).rsqrt()
        ctx.save_for_backward(centred, scale)
        return torch.mul(centred, scale, out=out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        centred, scale = ctx.saved_tensors
        of_centred = _mean(gradient * centred) * -(scale**3)
        return torch.addcmul(_mean(gradient) * -scale, centred, of_centred).addcmul_(gradient, scale), None


def _instance_norm_(x: Tensor, eps: float) -> Tensor:
    """Do what `_InstanceNorm` does where no gradient is wanted: in place, without a second map of the size."""
    x.sub_(_mean(x))
    strips = x.split(max(1, _STRIP_NUMBERS // x[:, :, 0].numel()), dim=2)
    if len(strips) == 1:
        return x.mul_((_mean(x.square()) + eps).rsqrt())
    squares = torch.stack([strip.square().sum((2, 3), keepdim=True) for strip in strips]).sum(0)
    return x.mul_((squares / (x.shape[2] * x.shape[3]) + eps).rsqrt())


class _SampleNorm(torch.autograd.Function):
    """The top left of relu(`SampleLayerNorm`(x + bias)), with a border by reflection; ``x`` is overwritten.

    With d = std + eps, c = x + bias - mean and g the gradient of y times gamma, that of x is, sample by sample,
    (g - mean(g)) / d - c sum(g c) / ((n - 1) std d^2). The last term is 0 for a flat sample, whose c is 0.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float, end: Sequence[int], margin: int
    ) -> Tensor:
        """Normalise ``x``, from ``margin`` pixels before the top left one to ``end``, counted from that."""
        centred, std = _centre_(x, bias)
        out = torch.empty((*x.shape[:2], end[0] + margin, end[1] + margin), dtype=x.dtype, memory_format=_LAST)
        ctx.ends = [min(side, stop) for side, stop in zip(x.shape[2:], end, strict=True)]
        scale = gamma.view(1, -1, 1, 1) / (std + eps)
        inside = _inside(out, margin, ctx.ends)
        torch.addcmul(beta.view(1, -1, 1, 1), _inside(centred, 0, ctx.ends), scale, out=inside).relu_()
        for lines, line, source in _reflections(out, (margin, margin), ctx.ends):
            lines[line] = lines[source]
        ctx.save_for_backward(centred, out, gamma, std)
        ctx.eps, ctx.margin = eps, margin
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("fuse_on_cpu cannot be differentiated twice: call the student itself")
        centred, out, gamma, std = ctx.saved_tensors
        count, gamma = centred[0].numel(), gamma.view(1, -1, 1, 1)
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        for lines, line, source in reversed([*_reflections(gradient, (ctx.margin, ctx.margin), ctx.ends)]):
            lines[source] += lines[line]
        gradient = _inside(gradient, ctx.margin, ctx.ends)
        divisor = std + ctx.eps
        sums = gradient.sum((2, 3), keepdim=True)
        products = (gradient * _inside(centred, 0, ctx.ends)).sum((2, 3), keepdim=True) / divisor
        constant = (gamma * sums).sum(1, keepdim=True) / (-count * divisor)
        last = (gamma * products).sum(1, keepdim=True) / ((1 - count) * std * divisor)
        of_x = torch.addcmul(constant, centred, torch.where(std > 0, last, 0))
        _inside(of_x, 0, ctx.ends).addcmul_(gradient, gamma / divisor)
        return of_x, of_x.sum((0, 2, 3)), products.sum((0, 2, 3)), sums.sum((0, 2, 3)), None, None, None


def _centre_(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Bring each sample of x + bias to the mean 0, in place, and return it with its deviation."""
    x.sub_(x.mean((1, 2, 3), keepdim=True) + (bias.mean() - bias).view(1, -1, 1, 1))
    # Row by row: a plain sum over a megapixel has lost four digits by its end.
    rows = torch.linalg.vector_norm(x, dim=(1, 3), keepdim=True)
    return x, (rows.square().sum(2, keepdim=True) / (x[0].numel() - 1)).sqrt()


def _scale_and_shift(norm: SampleLayerNorm, std: Tensor) -> tuple[Tensor, Tensor]:
    return norm.gamma.view(1, -1, 1, 1) / (std + norm.eps), norm.beta.view(1, -1, 1, 1)


def _normalised(x: Tensor, bias: Tensor, norm: SampleLayerNorm) -> Tensor:
    """Return relu(norm(x + bias)); ``x`` is overwritten."""
    if torch.is_grad_enabled():
        return _SampleNorm.apply(x, bias, norm.gamma, norm.beta, norm.eps, x.shape[-2:], 0)
    x, std = _centre_(x, bias)
    scale, shift = _scale_and_shift(norm, std)
    return torch.addcmul(shift, x, scale, out=x).relu_()


def _in_strips(x: Tensor, bias: Tensor, norm: SampleLayerNorm, last: nn.Conv2d, rows: int, columns: int) -> Tensor:
    """Return the top left of what the last convolution makes of relu(norm(x + bias)); ``x`` is overwritten.

    Strip by strip, where no gradient is wanted: the largest map of all is written once, and normalised and read in the
    processor's cache.
    """
    x, std = _centre_(x, bias)
    scale, shift = _scale_and_shift(norm, std)
    kernels, (batch, channels, height, width) = _kernels(last.weight), x.shape
    fused = torch.empty((batch, 1, rows, columns), dtype=x.dtype)
    count = max(1, rows // _STRIP_ROWS)
    starts = [rows // _SQUARE * strip // count * _SQUARE for strip in range(count)]
    for start, stop in zip(starts, [*starts[1:], rows], strict=True):
        room = torch.empty(
            (batch, channels, stop - start + 2 * _MARGIN, columns + 2 * _MARGIN), dtype=x.dtype, memory_format=_LAST
        )
        first, end = max(0, start - _MARGIN), min(height, stop + _MARGIN)
        above, right = _MARGIN - start + first, min(width, columns + _MARGIN)
        inside = room[:, :, above : above + end - first, _MARGIN : _MARGIN + right]
        torch.addcmul(shift, x[:, :, first:end, :right], scale, out=inside).relu_()
        for lines, line, source in _reflections(room, (above, _MARGIN), (end - first, right)):
            lines[line] = lines[source]
        fused[:, :, start:stop] = _convolve_to_one(room, kernels, last.bias)
    return fused


def _inside(x: Tensor, margin: int, ends: Sequence[int]) -> Tensor:
    return x[:, :, margin : margin + ends[0], margin : margin + ends[1]]


def _reflections(x: Tensor, margins: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[Tensor, int, int]]:
    """Yield all rows, then all columns, with the number of each in the border and of the one that it repeats."""
    for dim, margin, end in zip((2, 3), margins, ends, strict=True):
        lines = x.movedim(dim, 0)
        for line in range(margin):
            yield lines, line, 2 * margin - line
        for line in range(margin + end, len(lines)):
            yield lines, line, 2 * (margin + end - 1) - line


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _kernels(weight: Tensor) -> Tensor:
    """Return the kernel of each pixel of a square: that of one pixel, at its place among zeros."""
    rest = _SQUARE - 1
    side = weight.shape[-1] + rest
    # [rows, columns, C, side, side]
    places = F.pad(weight[0], (rest,) * 4).unfold(1, side, 1).unfold(2, side, 1).flip(1, 2).permute(1, 2, 0, 3, 4)
    return places.flatten(0, 1).contiguous(memory_format=_LAST)


def _convolve_to_one(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve to one channel; height and width of the result must be multiples of `_SQUARE`."""
    assert bias is not None
    return F.pixel_shuffle(F.conv2d(x, kernels, bias.expand(len(kernels)), stride=_SQUARE), _SQUARE)
