"""Whole images and what the teacher makes of them: what is scored, for the reward as for the report."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.crop_bank import chroma_levels
from fusion_env.data import ImagePair, PairSource, Progress, load_pair, luma_levels, no_progress
from fusion_env.data.camera import CAMERA_VERSION, through_cameras
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
        camera_seed: Seed of the rough cameras through which student and teacher see the pairs; None = as they are.
    """

    source: PairSource
    network: Teacher
    folder: Path
    device: torch.device
    camera_seed: int | None = None
    _turn: Lock = field(default_factory=Lock, repr=False)

    def pairs(self, index: int) -> tuple[ImagePair, ImagePair]:
        """Return a pair as student and teacher see it, and as it is: the same one where there is no camera."""
        pair = load_pair(self.source, index)
        return (pair if self.camera_seed is None else through_cameras(pair, self.camera_seed)), pair

    def load(self, index: int) -> StoredImages:
        """Return one pair with the teacher's fused luma and the visible chroma."""
        with self._turn:  # sources and teachers of others need not know of threads
            pair, clean = self.pairs(index)
            target = self._fused(index, lambda: pair).half()
        ir, vis = pair.ir.to(self.device)[None], pair.vis.to(self.device)[None]
        images = StoredImages(ir, luma_levels(vis), target, chroma_levels(vis))
        if clean is pair:
            return images
        return replace(images, clean=torch.cat([clean.ir, luma_levels(clean.vis[None])[0]])[None].to(self.device))

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
        room = partial(StoredImages.empty, chroma=True, clean=self.camera_seed is not None, device=home)
        stored = {size: room(count, size) for size, count in counts.items()}
        filled: Counter[tuple[int, int]] = Counter()
        for index in progress(indices, f"teacher {self.network.name}, whole images"):
            size = sizes[index]
            stored[size].fill(filled[size], self.load(index))
            filled[size] += 1
        return [replace(images, streamed_to=self.device if streamed else None) for images in stored.values()]

    def teacher_image(self, index: int) -> Tensor:
        """Return the teacher's fused luma of a pair, float32 [1, 1, H, W] in 0..1."""
        return self._fused(index, lambda: self.pairs(index)[0])

    def _fused(self, index: int, pair: Callable[[], ImagePair]) -> Tensor:
        key = {
            "version": _VERSION,
            "data": self.source.fingerprint(),
            "name": self.source.names[index],
            "teacher": self._teacher_fingerprint,
            "arithmetic": arithmetic(self.device),
        }
        if self.camera_seed is not None:
            key["camera"] = [CAMERA_VERSION, self.camera_seed]
        path = self.folder / "whole" / f"{content_key(key)}.safetensors"
        stored = load_or_compute(path, lambda: {"fused": self.network.fuse_pair(pair()).half()})
        return stored["fused"].to(self.device).float()[None]

    @cached_property
    def _teacher_fingerprint(self) -> str:
        """Hashes all weights, or a whole folder of images: too slow to be done for every image."""
        return self.network.fingerprint()
