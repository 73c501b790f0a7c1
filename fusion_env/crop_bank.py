"""Banks of crops: infrared, visible and what the teacher makes of them, computed once and kept on the device.

The networks normalise over their whole input, so that a crop of the teacher's fused image is not what the teacher makes
of the crop. With ``context="crop"`` the teacher therefore sees each crop by itself; with ``"image"`` the targets are
cut from its fused whole images. Training reads banks only: it never runs the teacher, nor decodes an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.config import TeacherSettings
from fusion_env.data import PairSource, Progress, joint_error, load_pair, luma_levels, no_progress, rgb_to_ycbcr
from fusion_env.teachers import Teacher

__all__ = [
    "NOT_IN_KEY",
    "Batch",
    "CropBank",
    "CropPlan",
    "StoredImages",
    "bank_key",
    "build_bank",
    "chroma_levels",
    "plan_crops",
]

_VERSION = 2

NOT_IN_KEY = frozenset(
    {
        "teacher",  # has a fingerprint, as the source has
        "teacher_weights",
        "student_init",  # stage 0 comes after
        "stage0_rounds",
        "stage0_seed",
    }
)
"""Settings of the teacher that are left out of a bank's key."""


class Batch(NamedTuple):
    """Images of one size, float32 [B, 1, H, W] in 0..1."""

    ir: Tensor
    vis: Tensor
    """Visible luma."""
    target: Tensor
    """The teacher's fused luma."""


@dataclass(frozen=True)
class CropPlan:
    """Where square crops of some images lie; arrays of shape [N].

    Attributes:
        image: Index into the pair source.
        top: First row.
        left: First column.
        flip: Mirrored left to right.
        size: Side in pixels.
    """

    image: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    size: int

    def of_image(self, index: int) -> np.ndarray:
        """Return the positions in the plan that lie on one image."""
        return np.flatnonzero(self.image == index)

    def cut(self, position: int, image: Tensor) -> Tensor:
        """Cut one crop, [C, size, size], out of its image [C, H, W]."""
        top, left = int(self.top[position]), int(self.left[position])
        crop = image[:, top : top + self.size, left : left + self.size]
        return crop.flip(-1) if self.flip[position] else crop

    def cut_all(self, positions: np.ndarray, image: Tensor) -> Tensor:
        """Cut several crops of one image, [B, C, size, size]."""
        return torch.stack([self.cut(position, image) for position in positions])


def plan_crops(
    source: PairSource, indices: Sequence[int], *, count: int, size: int, flip: bool, rng: np.random.Generator
) -> CropPlan:
    """Draw crops, from every image once before any is visited again.

    Args:
        source: The pairs.
        indices: Which of them to cut from.
        count: Number of crops N.
        size: Side of a crop in pixels.
        flip: Mirror half of the crops.
        rng: Source of the positions.

    Returns:
        The positions.

    Raises:
        DataError: An image is smaller than a crop; all of them are named.
    """
    small = [f"{source.names[i]} ({h}x{w})" for i in indices for h, w in [source.sizes[i]] if min(h, w) < size]
    if small:
        raise joint_error(
            f"images of {source.name} smaller than a crop of {size} pixels (set a smaller crop_size or score_size, or "
            "small_images='reflect')",
            small,
        )
    passes = -(-count // len(indices))
    image = np.concatenate([rng.permutation(np.asarray(indices)) for _ in range(passes)])[:count]
    sizes = np.asarray([source.sizes[i] for i in image])
    top = rng.integers(0, sizes[:, 0] - size + 1)
    left = rng.integers(0, sizes[:, 1] - size + 1)
    mirrored = (rng.random(count) < 0.5) & flip
    return CropPlan(image, top, left, mirrored, size)


@dataclass(frozen=True)
class StoredImages:
    """N registered images of one size on one device.

    Attributes:
        ir: Infrared, uint8 [N, 1, H, W].
        vis: Visible luma, uint8 [N, 1, H, W].
        target: The teacher's fused luma, float16 [N, 1, H, W] in 0..1 (finer than the 8 bits of a file).
        chroma: Cb and Cr of the visible image, uint8 [N, 2, H, W]; None where nobody needs them.
    """

    ir: Tensor
    vis: Tensor
    target: Tensor
    chroma: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ir)

    def batch(self, index: Tensor) -> Batch:
        """Return some of them."""
        ir = self.ir[index].float().div_(255)
        vis = self.vis[index].float().div_(255)
        return Batch(ir, vis, self.target[index].float())

    @staticmethod
    def together(images: Sequence["StoredImages"]) -> "StoredImages":
        """Join images of one size, all with chroma."""
        return StoredImages(
            *(torch.cat([getattr(image, name) for image in images]) for name in ("ir", "vis", "target", "chroma"))
        )


@dataclass(frozen=True)
class CropBank(StoredImages):
    """N square crops.

    Attributes:
        key: Hash of everything that the content depends on.
    """

    key: str = field(kw_only=True)


def chroma_levels(vis: Tensor) -> Tensor:
    """Return Cb and Cr of RGB levels [B, 3, H, W], uint8 [B, 2, H, W]."""
    return rgb_to_ycbcr(vis.float() / 255)[:, 1:].mul(255).add(0.5).clamp(0, 255).to(torch.uint8)


def build_bank(
    source: PairSource,
    plan: CropPlan,
    teacher: Teacher,
    settings: TeacherSettings,
    *,
    chroma: bool = False,
    folder: Path,
    device: str | torch.device,
    progress: Progress = no_progress,
) -> CropBank:
    """Cut a plan's crops and run the teacher on them, or read the result of an earlier time.

    Args:
        source: The pairs.
        plan: Where the crops lie.
        teacher: On `device`.
        settings: What the teacher sees.
        chroma: Keep the visible crops' chroma as well.
        folder: Cache folder.
        device: Where the bank shall live.
        progress: Progress display over the images.

    Returns:
        The bank, in the order of the plan.
    """
    whole_images = settings.teacher_context == "image" or teacher.whole_image_only
    key = bank_key(source, plan, teacher, settings, chroma=chroma, device=device)
    tensors = load_or_compute(
        folder / "banks" / f"{key}.safetensors",
        lambda: _cut_and_fuse(source, plan, teacher, whole_images, chroma, device, progress),
    )
    return CropBank(**{name: tensor.to(device) for name, tensor in tensors.items()}, key=key)


def bank_key(
    source: PairSource,
    plan: CropPlan,
    teacher: Teacher,
    settings: TeacherSettings,
    *,
    chroma: bool = False,
    device: str | torch.device = "cpu",
) -> str:
    """Hash everything that a bank's content depends on."""
    return content_key(
        {
            "version": _VERSION,
            "data": source.fingerprint(),
            "teacher": teacher.fingerprint(),
            "settings": settings.without(NOT_IN_KEY),
            "chroma": chroma,
            "arithmetic": arithmetic(device),
            "size": plan.size,
            "plan": [getattr(plan, name).tolist() for name in ("image", "top", "left", "flip")],
        }
    )


@torch.inference_mode()
def _cut_and_fuse(
    source: PairSource,
    plan: CropPlan,
    teacher: Teacher,
    whole_images: bool,
    chroma: bool,
    device: str | torch.device,
    progress: Progress,
) -> dict[str, Tensor]:
    luma_shape = (len(plan.image), 1, plan.size, plan.size)
    tensors = {
        "ir": torch.empty(luma_shape, dtype=torch.uint8),
        "vis": torch.empty(luma_shape, dtype=torch.uint8),
        "target": torch.empty(luma_shape, dtype=torch.float16),
    }
    if chroma:
        tensors["chroma"] = torch.empty((len(plan.image), 2, plan.size, plan.size), dtype=torch.uint8)
    for index in progress(sorted(set(plan.image.tolist())), f"teacher {teacher.name}"):
        pair = load_pair(source, index)
        positions = plan.of_image(index)
        where = torch.from_numpy(positions)
        ir, vis = plan.cut_all(positions, pair.ir), plan.cut_all(positions, pair.vis)
        tensors["ir"][where] = ir
        tensors["vis"][where] = luma_levels(vis)
        if chroma:
            tensors["chroma"][where] = chroma_levels(vis)
        if whole_images:
            target = plan.cut_all(positions, teacher.fuse_pair(pair))
        else:
            target = teacher.fuse_named(pair.name, ir=ir.to(device).float() / 255, vis=vis.to(device).float() / 255)
        tensors["target"][where] = target.half().cpu()
    return tensors
