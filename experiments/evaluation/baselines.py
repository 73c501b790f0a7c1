"""What a fused image costs without distillation: classical fusion, and post-processing of a student's output.

A score that these raise as much as training does is no measure of training. They stand in every report table.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from fusion_env import teachers
from fusion_env.filters import filter_reflected, gaussian_window

__all__ = [
    "CONTRAST",
    "POST_PROCESSING",
    "SMALLEST",
    "UNSHARP_AMOUNT",
    "UNSHARP_SIGMA",
    "FuseLuma",
    "average",
    "classical",
    "contrast",
    "post_processed",
    "unsharp",
]

FuseLuma = Callable[..., Tensor]
"""Called as ``fuse(ir=ir, vis=vis)`` with luma [B, 1, H, W] in 0..1."""

UNSHARP_AMOUNT = 1.0
UNSHARP_SIGMA = 1.0
"""Standard deviation of the Gaussian that unsharp masking subtracts, in pixels."""
SMALLEST = 32
"""Shortest side in pixels that all of them can fuse."""
CONTRAST = 1.2
"""Factor on the distance of each pixel from its image's mean."""

_WINDOW = gaussian_window(9, UNSHARP_SIGMA)


def average(*, ir: Tensor, vis: Tensor) -> Tensor:
    """Average both sources."""
    return (ir + vis) / 2


def unsharp(fused: Tensor) -> Tensor:
    """Sharpen: add `UNSHARP_AMOUNT` times what a Gaussian of `UNSHARP_SIGMA` takes away."""
    return (fused + UNSHARP_AMOUNT * (fused - filter_reflected(fused, _WINDOW))).clamp(0, 1)


def contrast(fused: Tensor) -> Tensor:
    """Stretch each image around its mean by `CONTRAST`."""
    mean = fused.mean((1, 2, 3), keepdim=True)
    return (mean + CONTRAST * (fused - mean)).clamp(0, 1)


POST_PROCESSING: dict[str, Callable[[Tensor], Tensor]] = {"unsharp": unsharp, "contrast": contrast}
"""Changes of fused luma [B, 1, H, W] in 0..1, by name."""


def classical() -> dict[str, FuseLuma]:
    """Return the classical methods by name."""
    return {"average": average, "laplacian": teachers.load("laplacian").fuse_luma}


def post_processed(student: FuseLuma) -> dict[str, FuseLuma]:
    """Return a student with its output sharpened, and with its contrast stretched, by name."""
    return {name: partial(_changed, student, change) for name, change in POST_PROCESSING.items()}


def _changed(student: FuseLuma, change: Callable[[Tensor], Tensor], *, ir: Tensor, vis: Tensor) -> Tensor:
    return change(student(ir=ir, vis=vis))
