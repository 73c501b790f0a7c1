"""The student on images of any size in little memory: tile by tile, and still the same picture.

The network normalises over whole maps, so that a tile fused by itself has other greys than its neighbour. Here every
normalisation gets the statistics of the whole map: one pass over the tiles computes a layer up to its normalisation and
adds up its moments, the next pass goes one layer further. Each tile brings as much of its surroundings as the layers
reach, so that there is nothing to blend and no seam; what differs from the whole image is rounding.

The price is that layers are computed again in later passes. Maps of a quarter of the image's width or less are kept
instead; they take about 30 bytes for each pixel of the image.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from student.fuse.moments import Affine, Moments, moments
from student.network import ContentEncoder, FusionStudent, SampleLayerNorm, check_pair, sigmoid

__all__ = ["MIN_TILE", "fuse_tiled"]

MIN_TILE = 64
"""Smallest side of a tile in pixels; below it, a tile is mostly surroundings."""

_KEPT_SHARE, _OVERHANG = 4, 3
"""A map is kept if it is as high as this share of the image, but for what a transposed convolution adds."""

Span = tuple[int, int]
"""First row or column of a part, and the one after its last."""
Part = tuple[Span, Span]
"""Rows and columns of a part."""


@torch.inference_mode()
def fuse_tiled(network: FusionStudent, *, ir: Tensor, vis: Tensor, tile: int) -> Tensor:
    """Fuse a batch of registered pairs tile by tile; in float32 within 1e-4 of ``network(ir=ir, vis=vis)``.

    On a CPU within 2e-3 of it in float16, and 0.02 in bfloat16.

    Args:
        network: The student, with at most 32 bits.
        ir: Infrared, [B, 1, H, W] in 0..1, on the network's device, in its precision.
        vis: Visible luma, same shape and range.
        tile: Height and width of a tile in pixels.

    Returns:
        Fused luma, [B, 1, H, W] in 0..1.

    Raises:
        ValueError: The shapes are wrong, or the tile is smaller than `MIN_TILE`.
    """
    check_pair(ir=ir, vis=vis)
    if tile < MIN_TILE:
        raise ValueError(f"tile must be at least {MIN_TILE} pixels. Got {tile}.")
    encoders = network.encoder.content_encoder1, network.encoder.content_encoder2  # visible first, as published
    codes = [_encode(encoder, image, tile) for encoder, image in zip(encoders, (vis, ir), strict=True)]
    chain = _Chain(torch.cat(codes, dim=1), network.decoder.model_up, ir.shape[2], tile)
    del codes
    chain.settle()
    fused = torch.empty_like(ir, dtype=torch.promote_types(ir.dtype, torch.float32))
    for part in _parts((ir.shape[2], ir.shape[3]), tile):
        _cut(fused, part).copy_(sigmoid(chain.result(part)))
    return network.exposed(fused, ir=ir, vis=vis)


def _encode(encoder: ContentEncoder, image: Tensor, tile: int) -> Tensor:
    """Return the code of an image; the residual blocks get it whole, as it has an eighth of the image's width."""
    modules = [*encoder.model]
    convolutions = [module for module in modules if not isinstance(module, type(modules[-1]))]
    chain = _Chain(image, convolutions, image.shape[2], tile)
    chain.settle()
    return nn.Sequential(*modules[len(convolutions) :])(chain.source)


class _Layer:
    """A convolution, plain or transposed, with the reflection before and the normalisation and ReLU after it.

    Attributes:
        affine: What the normalisation does; None until its statistics are known, or if there is none.
    """

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, reflected: int) -> None:
        self.convolution, self.reflected = convolution, reflected
        self.norm: nn.InstanceNorm2d | SampleLayerNorm | None = None
        self.affine: Affine | None = None
        self.transposed = isinstance(convolution, nn.ConvTranspose2d)
        self.kernel, self.stride = convolution.kernel_size[0], convolution.stride[0]
        self.padding = int(convolution.padding[0]) + reflected

    def length(self, side: int) -> int:
        """Return height or width of the result for that of the input."""
        if self.transposed:
            return (side - 1) * self.stride + self.kernel
        return (side + 2 * self.padding - self.kernel) // self.stride + 1

    def reach(self, span: Span) -> Span:
        """Return what of the input a part of the result depends on, also beyond the border."""
        start, stop = span
        if self.transposed:
            return -((self.kernel - 1 - start) // self.stride), (stop - 1) // self.stride + 1
        return start * self.stride - self.padding, (stop - 1) * self.stride - self.padding + self.kernel

    def convolve(self, x: Tensor, part: Part, first: Sequence[int], missing: Sequence[int]) -> Tensor:
        """Compute a part of the result before its normalisation.

        Args:
            x: What the part depends on, cut off at the border.
            part: The part.
            first: Row and column of the input where ``x`` starts.
            missing: Columns before and after, rows before and after, that were cut off.
        """
        weight, bias = self.convolution.weight, self.convolution.bias
        if self.transposed:  # where an input is cut off, it adds nothing
            begins = [side * self.stride for side in first]
            result = F.conv_transpose2d(x, weight, bias, self.stride)
            rows, columns = ((start - at, stop - at) for (start, stop), at in zip(part, begins, strict=True))
            return _cut(result, (rows, columns))
        x = F.pad(x, tuple(missing), mode="reflect" if self.reflected else "constant") if any(missing) else x
        return F.conv2d(x, weight, bias, self.stride)

    def settle(self, found: Moments) -> None:
        """Fix the normalisation by the moments of the whole map."""
        if isinstance(self.norm, SampleLayerNorm):
            self.affine = found.sample_affine(self.norm)
        elif self.norm is not None:
            self.affine = found.instance_affine(self.norm.eps)

    def finish(self, x: Tensor) -> Tensor:
        """Normalise and rectify."""
        if self.affine is None:
            return x
        scale, shift = self.affine
        return torch.addcmul(shift, x, scale).relu_().to(x.dtype)


class _Chain:
    """Layers one after the other, of whose result any part can be computed.

    Attributes:
        source: Input of the first layer that is left; all layers up to it are done.
        layers: The others.
    """

    def __init__(self, source: Tensor, modules: Iterable[nn.Module], height: int, tile: int) -> None:
        self.source, self.height, self.tile = source, height, tile
        self.layers = _layers(modules)

    def settle(self) -> None:
        """Find the statistics of every normalisation, each in one pass over the tiles."""
        while unsettled := [number for number, layer in enumerate(self.layers) if layer.norm and layer.affine is None]:
            self._settle_next(unsettled[0])

    def result(self, part: Part) -> Tensor:
        """Compute a part of the last layer's result."""
        return self._finished(len(self.layers), part)

    def _settle_next(self, depth: int) -> None:
        layer, size = self.layers[depth], self._size(depth + 1)
        keep = size[0] <= self.height // _KEPT_SHARE + _OVERHANG
        found, kept = [], None
        for part in _parts(size, max(1, self.tile * size[0] // self.height)):
            x = self._convolved(depth, part)
            found.append(moments(x))
            if keep:
                kept = x.new_empty(*x.shape[:2], *size) if kept is None else kept
                _cut(kept, part).copy_(x)
        layer.settle(sum(found[1:], found[0]))
        if kept is not None:
            self.source, self.layers = layer.finish(kept), self.layers[depth + 1 :]

    def _size(self, depth: int) -> tuple[int, int]:
        """Return height and width of the result of so many layers."""
        height, width = self.source.shape[2:]
        for layer in self.layers[:depth]:
            height, width = layer.length(height), layer.length(width)
        return height, width

    def _finished(self, depth: int, part: Part) -> Tensor:
        """Compute a part of the result of so many layers."""
        return self.layers[depth - 1].finish(self._convolved(depth - 1, part)) if depth else _cut(self.source, part)

    def _convolved(self, depth: int, part: Part) -> Tensor:
        """Compute a part of a layer's result before its normalisation."""
        layer = self.layers[depth]
        wanted = [layer.reach(span) for span in part]
        rows, columns = ((max(a, 0), min(b, side)) for (a, b), side in zip(wanted, self._size(depth), strict=True))
        missing = [
            gap
            for cut, full in ((columns, wanted[1]), (rows, wanted[0]))
            for gap in (cut[0] - full[0], full[1] - cut[1])
        ]
        return layer.convolve(self._finished(depth, (rows, columns)), part, (rows[0], columns[0]), missing)


def _layers(modules: Iterable[nn.Module]) -> list[_Layer]:
    """Group modules into layers."""
    layers: list[_Layer] = []
    reflected = 0
    for module in modules:
        if isinstance(module, nn.ReflectionPad2d):
            reflected = module.padding[0]
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            layers.append(_Layer(module, reflected))
            reflected = 0
        elif isinstance(module, (nn.InstanceNorm2d, SampleLayerNorm)):
            layers[-1].norm = module
        elif not isinstance(module, nn.ReLU):
            raise TypeError(f"{type(module).__name__} is no part of the student that can be computed in tiles.")
    return layers


def _parts(size: tuple[int, int], step: int) -> Iterator[Part]:
    """Divide a map into tiles, row by row."""
    spans = ([(start, min(start + step, side)) for start in range(0, side, step)] for side in size)
    yield from product(*spans)


def _cut(x: Tensor, part: Part) -> Tensor:
    (top, bottom), (left, right) = part
    return x[:, :, top:bottom, left:right]
