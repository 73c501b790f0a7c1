"""The contrast stretch that several published test scripts end with."""

import torch
from torch import Tensor

__all__ = ["min_max_stretch"]


def min_max_stretch(images: Tensor) -> Tensor:
    """Stretch each image so that its smallest value becomes 0 and its largest 1, over all its channels together.

    Args:
        images: [B, C, H, W].

    Returns:
        [B, C, H, W] in 0..1. An image of a single value has no range to stretch and is only clamped.
    """
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low), images.clamp(0, 1))
