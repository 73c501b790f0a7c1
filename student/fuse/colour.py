"""Fusion in colour: the luma is fused, the visible image's chroma stays."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["fuse_images", "luma_levels", "luma_of"]

_LUMA = (0.299, 0.587, 0.114)


def luma_of(rgb: Tensor) -> Tensor:
    """Return Y = 0.299 R + 0.587 G + 0.114 B of pictures [B, 3, H, W], as [B, 1, H, W]."""
    return (rgb * rgb.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def luma_levels(rgb: Tensor) -> Tensor:
    """Return the luma of 8-bit pictures [B, 3, H, W] in 0..1, rounded half up to whole levels as all readers do."""
    levels = (rgb * 255).round().to(torch.int32)
    thousandths = levels.new_tensor([299, 587, 114]).view(1, 3, 1, 1)
    return ((levels * thousandths).sum(dim=1, keepdim=True) + 500).div(1000, rounding_mode="floor").float() / 255


@torch.inference_mode()
def fuse_images(student: Callable[..., Tensor], *, ir: Tensor, vis: Tensor) -> Tensor:
    """Fuse registered pairs in colour: the luma is fused, the visible image's chroma put back.

    In YCbCr a colour with the same chroma and another luma Y' is the same RGB plus Y' - Y in every channel, so that
    no conversion is needed.

    Args:
        student: Network ``student(ir=ir, vis=luma) -> fused luma``, such as `student.FusionStudent`.
        ir: Infrared, [B, 1, H, W] in 0..1, on the student's device.
        vis: Visible RGB, [B, 3, H, W] in 0..1.

    Returns:
        Fused RGB, float32 [B, 3, H, W], clamped to 0..1.

    Raises:
        ValueError: If the shapes are wrong.
    """
    if vis.ndim != 4 or vis.shape[1] != 3:
        raise ValueError(f"vis must have shape [B, 3, H, W]. Got {tuple(vis.shape)}.")
    luma = luma_of(vis)
    return (vis + (student(ir=ir, vis=luma).float() - luma)).clamp(0, 1)
