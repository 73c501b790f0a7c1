"""Images, changes of images, and tables that the training scripts of both embedded networks share."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fusion_env import teachers
from fusion_env.data import PairSource
from fusion_env.data.colour import luma_levels
from fusion_env.errors import MissingRequirementsError
from student.checkpoint import write_atomic

__all__ = [
    "FUSIONS",
    "Image",
    "add_noise",
    "compress",
    "gaussian_blur",
    "load_lumas",
    "markdown_table",
    "scale_contrast",
    "spearman",
    "to_batch",
    "write_section",
]

Image = NDArray[np.float32]
"""One luma image, [H, W] in 0..1."""

FUSIONS = ("average", "maximum", "laplacian", "teacher")
"""Fused images that `load_lumas` makes; ``teacher`` only where the package has its weights."""


def load_lumas(source: PairSource, indices: Iterable[int]) -> dict[str, list[Image]]:
    """Load infrared and visible luma and fuse each pair in several ways.

    Args:
        source: Image pairs.
        indices: Which pairs.

    Returns:
        Lists of equal length under ``"ir"``, ``"vis"`` and the `FUSIONS` there are.
    """
    fusers = {"laplacian": teachers.load("laplacian")}
    try:
        fusers["teacher"] = teachers.load("embedded")
    except MissingRequirementsError:
        pass  # the teacher is itself trained by a script, and the networks can do without it
    lumas: dict[str, list[Image]] = {name: [] for name in ("ir", "vis", "average", "maximum", *fusers)}
    for index in indices:
        pair = source.load(index)
        ir = pair.ir[0].numpy().astype(np.float32) / 255
        vis = luma_levels(pair.vis)[0].numpy().astype(np.float32) / 255
        lumas["ir"].append(ir)
        lumas["vis"].append(vis)
        lumas["average"].append((ir + vis) / 2)
        lumas["maximum"].append(np.maximum(ir, vis))
        for name, fuser in fusers.items():
            lumas[name].append(fuser.fuse_pair(pair)[0].numpy().copy())
    return lumas


def gaussian_blur(image: Image, sigma_px: float) -> Image:
    """Blur with a Gaussian of the given standard deviation; border reflected."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def compress(image: Image, quality: int) -> Image:
    """Encode and decode with JPEG, quality 1 to 100."""
    levels = np.floor(image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255


def add_noise(image: Image, noise: Image, std: float) -> Image:
    """Add ``std`` times a standard normal field and clip."""
    return (image + np.float32(std) * noise).clip(0, 1)


def scale_contrast(image: Image, factor: float) -> Image:
    """Scale the distance from the image's mean and clip."""
    mean = image.mean()
    return (mean + np.float32(factor) * (image - mean)).clip(0, 1)


def to_batch(images: Sequence[Image]) -> torch.Tensor:
    """Stack images of one size to [B, 1, H, W]."""
    return torch.from_numpy(np.stack(images)[:, None])


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute the rank correlation; ties get their mean rank, and a constant sequence counts as 0."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    """Lay out a table; numbers get three decimals."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell if isinstance(cell, str) else f"{cell:.3f}" for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def write_section(path: Path, title: str, body: str) -> None:
    """Replace the section ``## title`` of a Markdown file, or append it; the rest of the file stays.

    Args:
        path: The file; made if need be.
        title: Heading of the section.
        body: Its content.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else "# Embedded networks, as measured\n"
    parts = text.split("\n## ")
    kept = [part.rstrip("\n") for part in parts if not part.startswith(f"{title}\n")]
    write_atomic(path, ("\n\n## ".join([*kept, f"{title}\n\n{body.strip()}"]) + "\n").encode())
