"""Full-range BT.601 colour conversion (that of JPEG), differentiable, plus exact luma of 8-bit pictures.

``Y = 0.299 R + 0.587 G + 0.114 B``, ``Cb = (B - Y) / 1.772 + 0.5``, ``Cr = (R - Y) / 1.402 + 0.5``.
"""

import torch
from torch import Tensor

__all__ = ["luma_levels", "rgb_to_luma", "rgb_to_ycbcr", "ycbcr_to_rgb"]

RED, GREEN, BLUE = 0.299, 0.587, 0.114
CB_RANGE, CR_RANGE = 2 * (1 - BLUE), 2 * (1 - RED)


def rgb_to_luma(rgb: Tensor) -> Tensor:
    """Return the luma of an RGB picture.

    Args:
        rgb: Floating-point tensor ``[..., 3, H, W]`` in 0..1.

    Returns:
        Luma ``[..., 1, H, W]`` in 0..1, not rounded. A grey picture may move by the last float bit;
        `luma_levels` is exact.

    Raises:
        ValueError: If the tensor has not three channels or no floating-point type.
    """
    red, green, blue = _channels("rgb", rgb)
    return RED * red + GREEN * green + BLUE * blue


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """Convert RGB to luma and chroma.

    Args:
        rgb: Floating-point tensor ``[..., 3, H, W]`` in 0..1.

    Returns:
        ``[..., 3, H, W]``: Y, Cb and Cr in 0..1; grey has Cb = Cr = 0.5.

    Raises:
        ValueError: If the tensor has not three channels or no floating-point type.
    """
    red, _, blue = _channels("rgb", rgb)
    luma = rgb_to_luma(rgb)
    return torch.cat([luma, (blue - luma) / CB_RANGE + 0.5, (red - luma) / CR_RANGE + 0.5], dim=-3)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Convert luma and chroma back to RGB.

    The result is not clamped, so that the conversion stays invertible: a changed luma with its old chroma can leave
    0..1, and whoever shows or stores the picture clamps it.

    Args:
        ycbcr: Floating-point tensor ``[..., 3, H, W]`` as `rgb_to_ycbcr` returns it.

    Returns:
        RGB ``[..., 3, H, W]``; within 1e-6 of the picture that was converted.

    Raises:
        ValueError: If the tensor has not three channels or no floating-point type.
    """
    luma, cb, cr = _channels("ycbcr", ycbcr)
    red = luma + CR_RANGE * (cr - 0.5)
    blue = luma + CB_RANGE * (cb - 0.5)
    green = (luma - RED * red - BLUE * blue) / GREEN
    return torch.cat([red, green, blue], dim=-3)


def luma_levels(rgb: Tensor) -> Tensor:
    """Return the luma of an 8-bit picture, rounded half up to whole levels, exactly.

    Args:
        rgb: uint8 tensor ``[..., 3, H, W]``.

    Returns:
        uint8 ``[..., 1, H, W]``; a grey picture keeps its levels exactly.

    Raises:
        ValueError: If the tensor has not three channels or is not uint8.
    """
    if rgb.dtype != torch.uint8 or rgb.ndim < 3 or rgb.shape[-3] != 3:
        raise ValueError(f"rgb must be a uint8 tensor [..., 3, H, W]. Got {rgb.dtype} {list(rgb.shape)}")
    red, green, blue = rgb.float().split(1, dim=-3)
    # float32 holds these whole numbers exactly, and a quotient rounds to the next whole one only if it is that number
    return (299 * red + 587 * green + 114 * blue + 500).div_(1000).to(torch.uint8)


def _channels(argument: str, image: Tensor) -> tuple[Tensor, ...]:
    if not image.is_floating_point() or image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(
            f"{argument} must be a floating-point tensor [..., 3, H, W] in 0..1. Got {image.dtype} {list(image.shape)}"
        )
    return image.split(1, dim=-3)
