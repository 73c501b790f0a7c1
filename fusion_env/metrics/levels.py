"""Bring images to whole grey levels 0..255, the scale on which every fusion metric is defined and published."""

import torch
from torch import Tensor

from fusion_env.errors import DataError

__all__ = ["check_images", "gray_levels", "to_levels"]

# First row of the inverse of MATLAB's YIQ matrix, as rgb2gray uses it.
_RED, _GREEN, _BLUE = 0.298936021293775, 0.587043074451121, 0.114020904255103
_PRECISE = (torch.float32, torch.float64)
_HALF = (torch.float16, torch.bfloat16)


def to_levels(image: Tensor) -> Tensor:
    """Round an image to whole levels 0..255.

    Whole levels are part of every metric's definition (published values come from 8-bit files), and they make a float
    image and its 8-bit file score the same.

    Args:
        image: ``uint8`` levels, or floats in 0..1. Floats are rounded half up; those outside 0..1 are clamped, because
            looking for them would stall a GPU at every call. NaN stays NaN.

    Returns:
        Levels in the same shape: ``float64`` for ``float64``, ``float32`` for everything else.

    Raises:
        TypeError: For any other dtype, whose range could only be guessed.
    """
    if image.dtype == torch.uint8:
        return image.float()
    if image.dtype in _HALF:
        image = image.float()
    if image.dtype in _PRECISE:
        return (image * 255.0).add_(0.5).floor_().clamp_(0.0, 255.0)
    raise TypeError(f"images must be uint8 (0..255) or floating point (0..1). Got {image.dtype}: convert them first")


def gray_levels(image: Tensor) -> Tensor:
    """Turn a colour or grey image into whole grey levels.

    ``0.2989 R + 0.5870 G + 0.1140 B`` rounded half up: MATLAB's ``rgb2gray``, full range. Its coefficients have more
    digits than usually printed and sum to 1; with the printed ones, which sum to 0.9999, AG and EN of some images are
    off by 5e-4.

    Args:
        image: ``[B, 3, H, W]`` RGB or ``[B, 1, H, W]`` grey, ``uint8`` or finite floats in 0..1.

    Returns:
        ``uint8`` ``[B, 1, H, W]``, ready for every metric.

    Raises:
        ValueError: If the image has neither one nor three channels.
    """
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise ValueError(f"expected images [B, 3, H, W] or [B, 1, H, W]. Got shape {list(image.shape)}")
    levels = to_levels(image)
    if image.shape[1] == 3:
        red, green, blue = levels.double().split(1, dim=1)
        levels = torch.floor(_RED * red + _GREEN * green + _BLUE * blue + 0.5)
    return levels.to(torch.uint8)


def check_images(minimum_size: int, *, needed_by: str = "this metric", **images: Tensor) -> None:
    """Check the images of one metric call against each other and against the metric's smallest size.

    Args:
        minimum_size: Smallest height and width, in pixels, on which the metric is defined.
        needed_by: The metric's name, for the message.
        **images: The images by argument name, for the message.

    Raises:
        ValueError: If an image is not ``[B, 1, H, W]`` or the shapes differ.
        TypeError: If the dtypes differ.
        DataError: If the images are smaller than ``minimum_size`` or the batch is empty.
    """
    (first_name, first), *others = images.items()
    if first.ndim != 4 or first.shape[1] != 1:
        raise ValueError(
            f"{first_name} must be luma [B, 1, H, W]. Got shape {list(first.shape)}: convert colour with gray_levels"
        )
    for name, image in others:
        if image.shape != first.shape:
            raise ValueError(
                f"{name} and {first_name} must have the same shape. Got {list(image.shape)} and {list(first.shape)}"
            )
        if image.dtype != first.dtype:
            raise TypeError(f"{name} and {first_name} must have the same dtype. Got {image.dtype} and {first.dtype}")
    batch, _, height, width = first.shape
    if batch == 0 or min(height, width) < minimum_size:
        raise DataError(
            f"{needed_by} needs at least one image of at least {minimum_size}x{minimum_size} pixels. "
            f"Got a batch of {batch}, {height}x{width}: use larger images or leave it out"
        )
