"""JPEG as an image degradation: the real codec on the host, and the same arithmetic batched on any device.

Baseline JPEG (ITU-T T.81) loses information in three places only: the forward transform's rounding, the quantisation,
and the inverse transform's rounding. The entropy coding between them is lossless and can be left out.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["jpeg_by_codec", "jpeg_on_device", "quantisation_table"]

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Example table for luminance of ITU-T T.81 (table K.1), which libjpeg scales by quality."""

_UNIT = 2**13
"""What 1 is in libjpeg's accurate integer transform, whose constants have 13 fractional bits."""

_BETWEEN = 2**2
"""What a level is between its two passes, which keep 2 fractional bits."""

_LEFT_HALF = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
"""One frequency a row: the transform's constants, multiplied out. Even rows go on mirrored, odd ones negated.

They are cosines times the square root of 8, but for the last digit of some: libjpeg adds rounded constants up.
"""


@lru_cache
def quantisation_table(quality: int, device: str | torch.device = "cpu") -> Tensor:
    """Return libjpeg's luminance table for a quality of 1 to 100: float64 [8, 8], whole numbers in 1..255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    with torch.inference_mode(False):  # for later calls outside of it as well
        return ((torch.tensor(_LUMINANCE) * scale + 50) // 100).clamp(1, 255).double().to(device)


def jpeg_by_codec(images: Tensor, quality: int) -> Tensor:
    """Encode and decode with libjpeg, image by image on the host, wherever the images live.

    Args:
        images: Luma [B, 1, H, W], 0..1; rounded to 8 bits first.
        quality: 1 to 100.

    Returns:
        The decoded images: multiples of 1/255, same shape, dtype and device.
    """
    levels = _levels(images).to(torch.uint8).cpu()
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    decoded = np.empty(levels.shape, dtype=np.uint8)
    for sample, target in zip(levels[:, 0].numpy(), decoded[:, 0], strict=True):
        _, code = cv2.imencode(".jpg", sample, settings)
        target[:] = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    return torch.from_numpy(decoded).to(images.device).to(images.dtype).div_(255)


def jpeg_on_device(images: Tensor, quality: int | Tensor) -> Tensor:
    """Do to a batch what `jpeg_by_codec` does, level for level, without leaving its device.

    libjpeg's integer transform is followed pass by pass with its rounding. The numbers are whole and below 2^53, so
    that float64 is exact and no setting for faster matrix products touches them.

    Args:
        images: Luma [B, 1, H, W], 0..1; rounded to 8 bits first.
        quality: 1 to 100, or its table from `quantisation_table` on the images' device.

    Returns:
        The decoded images: multiples of 1/255, same shape, dtype and device.
    """
    height, width = images.shape[-2:]
    # The codec fills up the last blocks by repeating the last row and column.
    levels = F.pad(_levels(images), (0, -width % 8, 0, -height % 8), mode="replicate").double() - 128
    blocks = levels.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [B, 1, rows, columns, 8, 8]
    transform = _transform(images.device)
    table = quality if isinstance(quality, Tensor) else quantisation_table(quality, images.device)
    rows = _divided(blocks @ transform.T, _UNIT // _BETWEEN)
    coefficients = _divided(transform @ rows, _UNIT * _BETWEEN)
    step = 8 * table  # each pass leaves a factor of the square root of 8
    kept = torch.sign(coefficients) * torch.floor((coefficients.abs() + step / 2) / step)
    columns = _divided(transform.T @ (kept * table), _UNIT // _BETWEEN)
    pixels = _divided(columns @ transform, 8 * _UNIT * _BETWEEN)
    decoded = (pixels + 128).clamp(0, 255).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return decoded[..., :height, :width].to(images.dtype) / 255


def _levels(images: Tensor) -> Tensor:
    return images.mul(255).add_(0.5).clamp_(0, 255).floor_()


def _divided(values: Tensor, by: int) -> Tensor:
    """Divide and round to the nearest whole number, halves up, as a shift to the right does."""
    return torch.floor(values / by + 0.5)


@lru_cache
def _transform(device: torch.device) -> Tensor:
    """Return the transform of one pass, [8, 8]."""
    with torch.inference_mode(False):  # for later calls outside of it as well
        left = torch.tensor(_LEFT_HALF, dtype=torch.float64)
        right = left.flip(1)
        right[1::2] *= -1
        return torch.cat([left, right], 1).to(device)
