"""The luma images that the embedded feature network and the embedded quality score learn from."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_env import teachers
from fusion_env.data import ImagePair, PairSource
from fusion_env.data.colour import luma_levels
from fusion_env.errors import MissingRequirementsError

__all__ = ["FUSIONS", "Image", "Lumas", "draw_crop", "fuse_lumas", "load_lumas", "to_batch"]

Image = NDArray[Any]
"""One luma image, float32 [H, W] in 0..1; OpenCV's type hints do not promise the dtype."""

Lumas = Mapping[str, list[Image]]
"""Lists of equal length by kind of image; index i is the same scene in all of them."""

FUSIONS = ("average", "maximum", "laplacian", "teacher")
"""Fused images that `load_lumas` makes; ``teacher`` only where the package has its weights."""


def load_lumas(source: PairSource, indices: Iterable[int], fusions: Sequence[str] = FUSIONS) -> Lumas:
    """Load infrared and visible luma of some pairs of a source, and fuse them; see `fuse_lumas`."""
    return fuse_lumas((source.load(index) for index in indices), fusions)


def fuse_lumas(pairs: Iterable[ImagePair], fusions: Sequence[str] = FUSIONS) -> Lumas:
    """Take infrared and visible luma of pairs and fuse each pair in several ways.

    Args:
        pairs: Image pairs.
        fusions: Which of `FUSIONS`.

    Returns:
        Images under ``"ir"``, ``"vis"`` and the fusions that can be made.
    """
    fusers = {}
    if "laplacian" in fusions:
        fusers["laplacian"] = teachers.load("laplacian")
    if "teacher" in fusions:
        # The teacher is itself trained by a script; without it the networks see the classical fusions only.
        with contextlib.suppress(MissingRequirementsError):
            fusers["teacher"] = teachers.load("embedded")
    classical: dict[str, Callable[[Image, Image], Image]]
    classical = {"average": lambda ir, vis: (ir + vis) / 2, "maximum": np.maximum}
    lumas: dict[str, list[Image]] = {"ir": [], "vis": []}
    for pair in pairs:
        ir, vis = (levels[0].numpy().astype(np.float32) / 255 for levels in (pair.ir, luma_levels(pair.vis)))
        lumas["ir"].append(ir)
        lumas["vis"].append(vis)
        for name in fusions:
            if name in classical:
                lumas.setdefault(name, []).append(classical[name](ir, vis))
            elif name in fusers:
                lumas.setdefault(name, []).append(fusers[name].fuse_pair(pair)[0].numpy().copy())
    return lumas


def draw_crop(lumas: Lumas, size: int, rng: np.random.Generator) -> dict[str, Image]:
    """Draw a scene and a square in it; return views of the square by kind of image."""
    scene = int(rng.integers(len(lumas["ir"])))
    height, width = lumas["ir"][scene].shape
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    return {kind: images[scene][top : top + size, left : left + size] for kind, images in lumas.items()}


def to_batch(images: Sequence[Image]) -> torch.Tensor:
    """Stack images of one size to float32 [B, 1, H, W]."""
    return torch.from_numpy(np.stack(images)[:, None].astype(np.float32, copy=False))
