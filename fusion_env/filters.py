"""Separable filters as products with banded matrices: a window that slides inside an image, or over its borders too.

On a CPU a convolution of one channel is many times slower than such products.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from math import exp
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Moments",
    "Window",
    "filter_by",
    "filter_reflected",
    "gaussian_window",
    "halve",
    "local_means",
    "local_moments",
    "reflecting_band",
    "reflecting_bands",
    "stack_rows_first",
    "strips",
]

Window = tuple[float, ...]

# Outputs of one matrix product along each axis: more of them multiply more zeros, fewer make products too small.
_ROWS = 24
_COLUMNS = 16
# Elements of a strip for each thread: with the planes derived from it, it should stay in a core's cache.
STRIP_ELEMENTS = 2**17


@lru_cache
def gaussian_window(size: int, sigma: float) -> Window:
    """Return the weights of a one-dimensional Gaussian, centred, of sum 1.

    Args:
        size: Number of weights, odd.
        sigma: Standard deviation in pixels.
    """
    weights = [exp(-(((i - (size - 1) / 2) / sigma) ** 2) / 2) for i in range(size)]
    return tuple(weight / sum(weights) for weight in weights)


def local_means(planes: Tensor, window: Window, stride: int = 1) -> Tensor:
    """Average planes under a separable window that never leaves the image (no padding).

    On a CPU each axis is a few products with a banded matrix (30 times faster than a convolution at 1024x768). Planes
    therefore come with their rows first: either axis is then one side of a plain matrix, whatever the number of planes.
    A GPU, and whatever needs a gradient, gets a depthwise convolution, which is exact to float32 there: cuDNN's
    ordinary convolutions may round to TF32, and variances, which are differences of large numbers, would be lost. For
    the same reason autocast is switched off.

    Args:
        planes: ``[H, N, W]``, float32 or float64.
        window: Weights of one axis, from `gaussian_window`; no longer than H and W.
        stride: Distance in pixels between the windows, in both directions; the first one starts at pixel 0.

    Returns:
        ``[(H - n) // stride + 1, N, (W - n) // stride + 1]`` for a window of n weights.
    """
    needs_gradient = torch.is_grad_enabled() and planes.requires_grad
    with torch.autocast(planes.device.type, enabled=False):
        if planes.is_cpu and not needs_gradient:
            return _band_products(planes, window, stride)
        return _depthwise(planes, window, stride)


def _depthwise(planes: Tensor, window: Window, stride: int) -> Tensor:
    # A convolution of a single channel would not count as depthwise.
    count = max(planes.shape[1], 2)
    channels = planes.transpose(0, 1).expand(count, -1, -1)[None].contiguous()
    weights = _band(window, 1, 1, planes.dtype, planes.device).expand(count, 1, 1, -1).contiguous()
    across = F.conv2d(channels, weights, stride=(1, stride), groups=count)
    means = F.conv2d(across, weights.transpose(2, 3).contiguous(), stride=(stride, 1), groups=count)
    return means[0, : planes.shape[1]].transpose(0, 1)


def _band_products(planes: Tensor, window: Window, stride: int) -> Tensor:
    height, count, width = planes.shape
    size = len(window)
    out_height = (height - size) // stride + 1
    band = _band(window, stride, _ROWS, planes.dtype, planes.device)
    lines = planes.reshape(height, count * width)
    means = lines.new_empty(out_height, count * width)
    for start in range(0, out_height, _ROWS):
        stop = min(start + _ROWS, out_height)
        block = lines[stride * start : stride * (stop - 1) + size]
        torch.mm(band[: stop - start, : len(block)], block, out=means[start:stop])
    return _means_along_rows(means.view(out_height, count, width), window, stride)


def _means_along_rows(planes: Tensor, window: Window, stride: int) -> Tensor:
    """Average ``[H, N, W]`` along the last axis only.

    All rows are cut into blocks of equal length, so that two large products do the work: each block's outputs take
    nearly all of their inputs from the block itself and the rest from the start of the next one.
    """
    height, count, width = planes.shape
    overlap = len(window) - stride
    outputs = max(_COLUMNS, -(-overlap // stride))
    block = outputs * stride
    out_width = (width - len(window)) // stride + 1
    # The last block that is needed must not end a row: its outputs would touch the next one, which may hold NaN.
    blocks = -(-out_width // outputs) + (overlap > 0)
    padding = blocks * block - width
    lines = (F.pad(planes, (0, padding)) if padding else planes).view(-1, block)
    band = _band(window, stride, outputs, planes.dtype, planes.device)
    means = lines @ band[:, :block].T
    means[:-1].addmm_(lines[1:, :overlap], band[:, block:].T)
    return means.view(height, count, -1)[..., :out_width]


@cache  # none is ever dropped: a captured graph reads it where it lies
def _band(window: Window, stride: int, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``[rows, stride * (rows - 1) + n]`` with the window in each row, ``stride`` further right each time."""
    # A tensor made in inference mode could never again take part in a backward pass, and this one is kept.
    with torch.inference_mode(False):
        band = torch.zeros(rows, stride * (rows - 1) + len(window), dtype=torch.float64)
        for row in range(rows):
            band[row, stride * row : stride * row + len(window)] = torch.tensor(window, dtype=torch.float64)
        return band.to(device, dtype)


def filter_reflected(images: Tensor, window: Window) -> Tensor:
    """Average images under a separable window, continued by reflection at the borders (OpenCV's BORDER_REFLECT_101).

    Differentiable; autocast is ignored.

    Args:
        images: ``[..., H, W]``, floating point; H and W larger than half the window.
        window: Weights of one axis, from `gaussian_window`.

    Returns:
        The same shape and dtype.

    Raises:
        ValueError: If H or W is too small.
    """
    return filter_by(images, *reflecting_bands(window, images))


def filter_by(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Filter images ``[..., H, W]`` by the matrices of `reflecting_bands`; autocast is ignored."""
    with torch.autocast(images.device.type, enabled=False):
        return rows @ (images @ columns.T)


def reflecting_bands(window: Window, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrices ``[H, H]`` and ``[W, W]`` by which `filter_reflected` averages images ``[..., H, W]``.

    Raises:
        ValueError: If H or W is too small.
    """
    height, width = (reflecting_band(window, size, images.dtype, images.device) for size in images.shape[-2:])
    return height, width


def reflecting_band(window: Window, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the ``[size, size]`` matrix that averages a line of pixels, always the same object."""
    return _reflecting_band(window, size, dtype, device)


@cache  # as _band
def _reflecting_band(window: Window, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    radius = len(window) // 2
    if size <= radius:
        raise ValueError(f"Height and width must be at least {radius + 1} pixels. Got {size}.")
    with torch.inference_mode(False):  # as in _band
        band = torch.zeros(size, size, dtype=torch.float64)
        pixels = torch.arange(size)
        for offset, weight in enumerate(window, start=-radius):
            reflected = (size - 1) - ((size - 1) - (pixels + offset).abs()).abs()
            band[pixels, reflected] += weight
        return band.to(device, dtype)


class Moments(NamedTuple):
    """Local moments of one image (the first of a stack) and of the S others against it, rows first."""

    mean: Tensor
    """``[h, 1, B, w]`` local mean of the one image."""
    other_means: Tensor
    """``[h, S, B, w]`` local means of the others."""
    variance: Tensor
    """``[h, 1, B, w]`` local variance of the one image; rounding can leave it slightly negative."""
    other_variances: Tensor
    """``[h, S, B, w]`` local variances of the others."""
    covariances: Tensor
    """``[h, S, B, w]`` local covariance of each other image with the one."""


def stack_rows_first(*images: Tensor) -> Tensor:
    """Copy luma images ``[B, 1, H, W]`` into one ``[H, len(images), B, W]``, the layout of `local_moments`."""
    return torch.stack([image[:, 0].transpose(0, 1) for image in images], dim=1)


def local_moments(images: Tensor, window: Window) -> Moments:
    """Compute local moments of a stack of images, filtering each plane once.

    Variances are differences ``E[x^2] - E[x]^2``: subtract each image's mean beforehand, or float32 loses two digits.

    Args:
        images: ``[H, 1 + S, B, W]``: the image that is compared, then the S images it is compared with.
        window: Weights of one axis, from `gaussian_window`.
    """
    count = images.shape[1]
    # One stack: few large products use several threads better than many small ones.
    means, squares, products = _stack_means(_with_products(images), window).split([count, count, count - 1], dim=1)
    variances = torch.addcmul(squares, means, means, value=-1)
    covariances = torch.addcmul(products, means[:, 1:], means[:, :1], value=-1)
    return Moments(means[:, :1], means[:, 1:], variances[:, :1], variances[:, 1:], covariances)


def _with_products(images: Tensor) -> Tensor:
    """Append to the images ``[h, 1 + S, B, w]`` their squares and the products of the others with the first."""
    if images.requires_grad:
        return torch.cat([images, images.square(), images[:, 1:] * images[:, :1]], dim=1)
    height, count, *rest = images.shape
    planes = images.new_empty(height, 3 * count - 1, *rest)
    planes[:, :count] = images
    torch.mul(images, images, out=planes[:, count : 2 * count])
    torch.mul(images[:, 1:], images[:, :1], out=planes[:, 2 * count :])
    return planes


def strips(images: Tensor, window: Window, stride: int = 1) -> Iterator[Tensor]:
    """Cut a stack of images into strips of rows whose local means, taken together, are those of the whole stack.

    On a CPU, a strip with all that is derived from it stays in the cache; elsewhere the stack is yielded whole.

    Args:
        images: ``[H, S, B, W]``.
        window: Weights of one axis, from `gaussian_window`; neighbouring strips overlap by about its length.
        stride: Distance in pixels between the windows, as in `local_means`.
    """
    size = len(window)
    height = (len(images) - size) // stride + 1
    elements = STRIP_ELEMENTS * torch.get_num_threads()
    rows = max(2 * size, elements // (stride * images[0].numel())) if images.is_cpu else height
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        yield images[stride * start : stride * (stop - 1) + size]


def halve(images: Tensor, window: Window) -> Tensor:
    """Filter a stack of images ``[H, S, B, W]`` and keep every second pixel in both directions."""
    return _stack_means(images, window, stride=2)


def _stack_means(images: Tensor, window: Window, stride: int = 1) -> Tensor:
    return local_means(images.flatten(1, 2), window, stride).unflatten(1, images.shape[1:3])
