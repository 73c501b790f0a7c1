"""Local means, variances and covariances under a sliding Gaussian window: the core of VIF and SSIM."""

from functools import lru_cache
from math import exp
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Moments", "Window", "gaussian_window", "local_means", "local_moments"]

Window = tuple[float, ...]

# Output columns (rows) per matrix product: 16 to 48 are equally fast on AVX-512, wider ones multiply more zeros.
_TILE = 32


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

    A convolution with one input channel is slow on a CPU, so there each axis is a sequence of small products with a
    banded matrix (30 times faster at 1024x768). A GPU, and whatever needs a gradient, gets a depthwise convolution,
    which is exact to float32 there: cuDNN's ordinary convolutions may round to TF32, and the variances, differences of
    large numbers, would be lost. For the same reason autocast is switched off.

    Args:
        planes: ``[N, H, W]``, with N of at least 2 (a convolution of one channel is not a depthwise one).
        window: Weights of one axis, from `gaussian_window`; no longer than H and W.
        stride: Distance in pixels between the windows, in both directions; the first one starts at pixel 0.

    Returns:
        ``[N, (H - n) // stride + 1, (W - n) // stride + 1]`` for a window of n weights.
    """
    needs_gradient = torch.is_grad_enabled() and planes.requires_grad
    with torch.autocast(planes.device.type, enabled=False):
        if planes.device.type == "cpu" and not needs_gradient:
            return _block_products(planes, window, stride)
        return _depthwise(planes, window, stride)


def _depthwise(planes: Tensor, window: Window, stride: int) -> Tensor:
    weights = _band(window, 1, 1, planes.dtype, planes.device).expand(len(planes), 1, 1, -1).contiguous()
    rows = F.conv2d(planes[None], weights, stride=(1, stride), groups=len(planes))
    return F.conv2d(rows, weights.transpose(2, 3).contiguous(), stride=(stride, 1), groups=len(planes))[0]


def _block_products(planes: Tensor, window: Window, stride: int) -> Tensor:
    count, height, width = planes.shape
    size = len(window)
    out_height, out_width = (height - size) // stride + 1, (width - size) // stride + 1
    band = _band(window, stride, min(_TILE, max(out_height, out_width)), planes.dtype, planes.device)

    lines = planes.reshape(count * height, width)
    across = lines.new_empty(count * height, out_width)
    for start in range(0, out_width, _TILE):
        stop = min(start + _TILE, out_width)
        block = lines[:, stride * start : stride * (stop - 1) + size]
        torch.mm(block, band[: stop - start, : block.shape[1]].T, out=across[:, start:stop])

    across = across.view(count, height, out_width)
    means = planes.new_empty(count, out_height, out_width)
    for start in range(0, out_height, _TILE):
        stop = min(start + _TILE, out_height)
        block = across[:, stride * start : stride * (stop - 1) + size]
        rows = band[: stop - start, : block.shape[1]].expand(count, -1, -1)
        torch.bmm(rows, block, out=means[:, start:stop])
    return means


@lru_cache(maxsize=256)
def _band(window: Window, stride: int, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``[rows, stride * (rows - 1) + n]`` with the window in each row, ``stride`` further right each time."""
    # A tensor made in inference mode could never again take part in a backward pass, and this one is kept.
    with torch.inference_mode(False):
        band = torch.zeros(rows, stride * (rows - 1) + len(window), dtype=torch.float64)
        for row in range(rows):
            band[row, stride * row : stride * row + len(window)] = torch.tensor(window, dtype=torch.float64)
        return band.to(device, dtype)


class Moments(NamedTuple):
    """Local moments of one image (index 0 of the stack) and of the S others against it."""

    mean: Tensor
    """``[1, B, h, w]`` local mean of the one image."""
    other_means: Tensor
    """``[S, B, h, w]`` local means of the others."""
    variance: Tensor
    """``[1, B, h, w]`` local variance of the one image; rounding can leave it slightly negative."""
    other_variances: Tensor
    """``[S, B, h, w]`` local variances of the others."""
    covariances: Tensor
    """``[S, B, h, w]`` local covariance of each other with the one."""


def local_moments(images: Tensor, window: Window) -> Moments:
    """Compute local moments of a stack of images, filtering each plane once.

    Variances are differences ``E[x^2] - E[x]^2``: subtract each image's mean beforehand, or float32 loses two digits.

    Args:
        images: ``[1 + S, B, H, W]``: the image that is compared, then the S images it is compared with.
        window: Weights of one axis, from `gaussian_window`.
    """
    others = len(images) - 1
    planes = torch.cat([images, images * images, images[1:] * images[:1]])
    means = local_means(planes.flatten(0, 1), window)
    first, squares, products = means.unflatten(0, planes.shape[:2]).split([1 + others, 1 + others, others])
    variances = torch.addcmul(squares, first, first, value=-1)
    covariances = torch.addcmul(products, first[1:], first[:1], value=-1)
    return Moments(first[:1], first[1:], variances[:1], variances[1:], covariances)
