"""Banks of crops: infrared, visible and what the teacher makes of them, computed once and kept in memory.

The networks normalise over their whole input, so that a crop of the teacher's fused image is not what the teacher makes
of the crop. With ``context="crop"`` the teacher therefore sees each crop by itself; with ``"image"`` the targets are
cut from its fused whole images. Training reads banks only: it never runs the teacher, nor decodes an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.config import TeacherSettings
from fusion_env.data import PairSource, Progress, joint_error, load_pair, luma_levels, no_progress, rgb_to_ycbcr
from fusion_env.errors import TeacherError
from fusion_env.stored_images import Batch, StoredImages
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

_VERSION = 3

_PIXELS_AT_ONCE = 2**20
"""Pixels of crops that the teacher is given at once: no more than a large image has."""

NOT_IN_KEY = frozenset(
    {
        "teacher",  # has a fingerprint, as the source has
        "teacher_weights",
        "student_init",  # stage 0 comes after
        "stage0_rounds",
        "stage0_schedule",
        "stage0_seed",
    }
)
"""Settings of the teacher that are left out of a bank's key."""


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

    def by_image(self) -> list[tuple[int, np.ndarray]]:
        """Return the images in ascending order, each with the positions in the plan that lie on it."""
        order = np.argsort(self.image, kind="stable")
        images, starts = np.unique(self.image[order], return_index=True)
        return list(zip(images.tolist(), np.split(order, starts[1:]), strict=True))

    def cut(self, position: int, image: Tensor) -> Tensor:
        """Cut one crop, [C, size, size], out of its image [C, H, W]."""
        top, left = int(self.top[position]), int(self.left[position])
        crop = image[:, top : top + self.size, left : left + self.size]
        return crop.flip(-1) if self.flip[position] else crop


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
    streamed: bool = False,
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
        device: What trains on the bank, and where it lives.
        streamed: Let it live on the host; mini-batches are brought to `device`.
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
    images = {name: tensor.to("cpu" if streamed else device) for name, tensor in tensors.items()}
    return CropBank(**images, streamed_to=torch.device(device) if streamed else None, key=key)


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


class _Crop(NamedTuple):
    """One crop on its way into a bank."""

    number: int
    pair: str
    ir: Tensor
    vis: Tensor
    """RGB."""
    target: Tensor | None
    """Cut from the teacher's whole image; None where the teacher is to see the crop."""


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
    bank = StoredImages.empty(len(plan.image), (plan.size, plan.size), chroma=chroma, device=torch.device("cpu"))
    crops = _cut(source, plan, teacher if whole_images else None, progress, f"teacher {teacher.name}")
    while part := list(islice(crops, max(1, _PIXELS_AT_ONCE // plan.size**2))):
        where = torch.tensor([crop.number for crop in part])
        ir, vis = torch.stack([crop.ir for crop in part]), torch.stack([crop.vis for crop in part])
        bank.ir[where] = ir
        bank.vis[where] = luma_levels(vis)
        if bank.chroma is not None:
            bank.chroma[where] = chroma_levels(vis)
        if whole_images:
            target = torch.stack([crop.target for crop in part if crop.target is not None])
        else:
            names = [crop.pair for crop in part]
            target = _fuse(teacher, names, ir=ir.to(device).float() / 255, vis=vis.to(device).float() / 255)
        bank.target[where] = target.half().cpu()
    return bank.tensors()


def _cut(
    source: PairSource, plan: CropPlan, fuses_whole: Teacher | None, progress: Progress, title: str
) -> Iterator[_Crop]:
    """Yield all crops, those of one image after the other."""
    for index, positions in progress(plan.by_image(), title):
        pair = load_pair(source, index)
        whole = [pair.ir, pair.vis, *([] if fuses_whole is None else [fuses_whole.fuse_pair(pair)])]
        for number in positions.tolist():
            ir, vis, *target = (plan.cut(number, image).clone() for image in whole)  # a view would hold its image
            yield _Crop(number, pair.name, ir, vis, target[0] if target else None)


def _fuse(teacher: Teacher, names: Sequence[str], *, ir: Tensor, vis: Tensor) -> Tensor:
    """Fuse crops of several pairs; an error names the pair that it comes from."""
    try:
        return teacher.fuse_named(names[0], ir=ir, vis=vis)
    except TeacherError:
        for name, one_ir, one_vis in zip(names, ir.split(1), vis.split(1), strict=True):
            teacher.fuse_named(name, ir=one_ir, vis=one_vis)
        raise
