"""Whole images and what the teacher makes of them: what is scored, for the reward as for the report."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.crop_bank import StoredImages, chroma_levels
from fusion_env.data import PairSource, Progress, load_pair, luma_levels, no_progress
from fusion_env.teachers import Teacher

__all__ = ["WholeImages"]

_VERSION = 1


@dataclass(frozen=True, eq=False)
class WholeImages:
    """Serves the pairs of a source as they are scored; the teacher's images are made at the first use, and cached.

    Attributes:
        source: The pairs.
        network: The teacher.
        folder: Cache folder.
        device: Where the images shall live.
    """

    source: PairSource
    network: Teacher
    folder: Path
    device: torch.device
    _turn: Lock = field(default_factory=Lock, repr=False)

    def load(self, index: int) -> StoredImages:
        """Return one pair with the teacher's fused luma and the visible chroma."""
        with self._turn:  # sources and teachers of others need not know of threads
            pair = load_pair(self.source, index)
            target = self.teacher_image(index).half()
        vis = pair.vis.to(self.device)[None]
        return StoredImages(pair.ir.to(self.device)[None], luma_levels(vis), target, chroma_levels(vis))

    def by_size(self, indices: Sequence[int], progress: Progress = no_progress) -> list[StoredImages]:
        """Return some pairs, those of one size together; sizes in the order of their first pair."""
        groups: dict[tuple[int, ...], list[StoredImages]] = defaultdict(list)
        for index in progress(indices, f"teacher {self.network.name}, whole images"):
            groups[tuple(self.source.sizes[index])].append(self.load(index))
        return [StoredImages.together(images) for images in groups.values()]

    def teacher_image(self, index: int) -> Tensor:
        """Return the teacher's fused luma of a pair, float32 [1, 1, H, W] in 0..1."""
        key = content_key(
            {
                "version": _VERSION,
                "data": self.source.fingerprint(),
                "name": self.source.names[index],
                "teacher": self._teacher_fingerprint,
                "arithmetic": arithmetic(self.device),
            }
        )
        path = self.folder / "whole" / f"{key}.safetensors"
        stored = load_or_compute(path, lambda: {"fused": self.network.fuse_pair(load_pair(self.source, index)).half()})
        return stored["fused"].to(self.device).float()[None]

    @cached_property
    def _teacher_fingerprint(self) -> str:
        """Hashes all weights, or a whole folder of images: too slow to be done for every image."""
        return self.network.fingerprint()
