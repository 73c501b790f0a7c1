"""Statistics for the student's normalisations, from parts of a map as well as from all of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from student.network import SampleLayerNorm

__all__ = ["Affine", "Moments", "moments"]

Affine = tuple[Tensor, Tensor]
"""Scale and shift of every channel, float32 [B, C, 1, 1]: what a normalisation does once its statistics are known."""


@dataclass(frozen=True)
class Moments:
    """Number of pixels of a map, and sum and sum of squares of each channel, float64 [B, C]; parts add up."""

    pixels: int
    total: Tensor
    squares: Tensor

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of two parts together."""
        return Moments(self.pixels + other.pixels, self.total + other.total, self.squares + other.squares)

    def instance_affine(self, eps: float) -> Affine:
        """Return what `torch.nn.InstanceNorm2d` without parameters does: biased variance, ``eps`` added to it."""
        mean = self.total / self.pixels
        variance = (self.squares / self.pixels - mean.square()).clamp_min(0)
        scale = (variance + eps).rsqrt()
        return _as_map(scale), _as_map(-mean * scale)

    def sample_affine(self, norm: SampleLayerNorm) -> Affine:
        """Return what a `SampleLayerNorm` does: unbiased deviation over all channels, ``eps`` added to it."""
        count = self.pixels * self.total.shape[1]
        mean = self.total.sum(1, keepdim=True) / count
        variance = (self.squares.sum(1, keepdim=True) / count - mean.square()).clamp_min(0)
        std = (variance * (count / (count - 1))).sqrt()
        scale = norm.gamma / (std + norm.eps)
        return _as_map(scale), _as_map(norm.beta - mean * scale)


def moments(x: Tensor) -> Moments:
    """Take the moments of a map [B, C, H, W]: in float32 along a row, in float64 over the rows.

    A plain float32 sum over a megapixel has lost four digits by its end. Maps that are channels-last are quickest.
    """
    rows = x.permute(0, 2, 3, 1)
    total = rows.sum(2, dtype=torch.float32).double().sum(1)
    squares = torch.linalg.vector_norm(rows, dim=2, dtype=torch.float32).double().square().sum(1)
    return Moments(x.shape[2] * x.shape[3], total, squares)


def _as_map(values: Tensor) -> Tensor:
    return values.float()[:, :, None, None]
