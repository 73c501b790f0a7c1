"""Whole images and what the teacher makes of them: what is scored, for the reward as for the report."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.crop_bank import chroma_levels
from fusion_env.data import ImagePair, PairSource, Progress, load_pair, luma_levels, no_progress
from fusion_env.stored_images import StoredImages
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
            target = self._fused(index, lambda: pair).half()
        vis = pair.vis.to(self.device)[None]
        return StoredImages(pair.ir.to(self.device)[None], luma_levels(vis), target, chroma_levels(vis))

    def by_size(
        self, indices: Sequence[int], *, streamed: bool = False, progress: Progress = no_progress
    ) -> list[StoredImages]:
        """Return some pairs, those of one size together; sizes in the order of their first pair.

        Args:
            indices: Which of them.
            streamed: Let them live on the host; mini-batches are brought to the device.
            progress: Progress display over the pairs.
        """
        home = torch.device("cpu") if streamed else self.device
        sizes = {index: (height, width) for index in indices for height, width in [self.source.sizes[index]]}
        counts = Counter(sizes.values())
        stored = {size: StoredImages.empty(count, size, chroma=True, device=home) for size, count in counts.items()}
        filled: Counter[tuple[int, int]] = Counter()
        for index in progress(indices, f"teacher {self.network.name}, whole images"):
            size = sizes[index]
            stored[size].fill(filled[size], self.load(index))
            filled[size] += 1
        return [replace(images, streamed_to=self.device if streamed else None) for images in stored.values()]

    def teacher_image(self, index: int) -> Tensor:
        """Return the teacher's fused luma of a pair, float32 [1, 1, H, W] in 0..1."""
        return self._fused(index, lambda: load_pair(self.source, index))

    def _fused(self, index: int, pair: Callable[[], ImagePair]) -> Tensor:
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
        stored = load_or_compute(path, lambda: {"fused": self.network.fuse_pair(pair()).half()})
        return stored["fused"].to(self.device).float()[None]

    @cached_property
    def _teacher_fingerprint(self) -> str:
        """Hashes all weights, or a whole folder of images: too slow to be done for every image."""
        return self.network.fingerprint()
