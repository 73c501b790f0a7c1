"""A round as repositories of this field write it: what `performance` compares with.

Every image is degraded by OpenCV in a data loader, the teacher runs in every iteration, features of both fused images
are computed each time, clean and degraded inputs take turns, and images are scored one by one. Images are in memory, so
that reading files does not count.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from experiments.measurements.timing import Clock, wait_for
from fusion_env.action import LossWeights
from fusion_env.degradation import Degradation
from fusion_env.env import FusionDistillEnv
from fusion_env.losses import guidance_loss, self_learning_loss, total_loss
from fusion_env.scoring import Scores, indicator_values

__all__ = ["PlainPipeline", "degrade_by_opencv"]

Image = NDArray[np.float32]
"""Luma [H, W] in 0..1."""


def degrade_by_opencv(
    image: Image, degradation: Degradation, *, brightness: float, contrast: float, noise: Image
) -> Image:
    """Do what `fusion_env.degradation.degrade` does, to one image.

    Args:
        image: Luma.
        degradation: Strengths.
        brightness: Uniform in (-1, 1).
        contrast: Uniform in (-1, 1).
        noise: Standard normal.
    """
    changed: Image = image
    if degradation.has("blur_kernel"):
        side = degradation.blur_kernel
        sigma = 0.3 * ((side - 1) * 0.5 - 1) + 0.8  # OpenCV's rule; left to itself it has a table for small kernels
        changed = np.asarray(cv2.GaussianBlur(image, (side, side), sigma), np.float32)
    changed = np.clip(changed * np.float32(1 + degradation.brightness * brightness), 0, 1)
    mean = changed.mean()
    changed = np.clip(mean + (changed - mean) * np.float32(1 + degradation.contrast * contrast), 0, 1)
    changed = np.clip(changed + np.float32(degradation.noise_std) * noise, 0, 1)
    if degradation.has("jpeg_quality"):
        levels = np.round(changed * 255).astype(np.uint8)
        _, code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, degradation.jpeg_quality])
        changed = np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.float32) / np.float32(255)
    return changed


class _Crops(Dataset):
    """Clean and degraded crops, made whenever one is asked for."""

    def __init__(self, ir: Tensor, vis: Tensor, degradation: Degradation) -> None:
        self._images = [images[:, 0].cpu().numpy() for images in (ir, vis)]
        self._degradation = degradation
        self._rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._images[0])

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        clean = [images[number].astype(np.float32) / 255 for images in self._images]
        degraded = [self._degraded(image) for image in clean]
        return tuple(torch.from_numpy(image)[None] for image in (*clean, *degraded))

    def _degraded(self, image: Image) -> Image:
        brightness, contrast = self._rng.uniform(-1, 1, 2)
        noise = self._rng.standard_normal(image.shape, np.float32)
        return degrade_by_opencv(image, self._degradation, brightness=brightness, contrast=contrast, noise=noise)


class PlainPipeline:
    """Trains and scores the student of an environment.

    Args:
        env: With a run; its student is trained.
        weights: Of the losses.
        degradation: Of every round.
        workers: Processes of the data loader; 0 for none.
        clock: Times the parts.

    Attributes:
        timings: Seconds of each part; on CUDA with `waits` only.
        waits: Wait for the device after each part.
    """

    def __init__(
        self,
        env: FusionDistillEnv,
        weights: LossWeights,
        degradation: Degradation,
        *,
        workers: int = 0,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._task, self._student, self._weights = env.task, env.student, weights
        self._optimizer = torch.optim.Adam(self._student.parameters(), lr=env.config.learning_rate)
        crops, batch = _Crops(self._task.bank.ir, self._task.bank.vis, degradation), env.config.batch_size
        draws = torch.Generator().manual_seed(0)
        sampler = RandomSampler(crops, num_samples=batch * self._task.iterations, generator=draws)
        on_cuda = self._task.device.type == "cuda"
        self._loader = DataLoader(
            crops, batch, sampler=sampler, num_workers=workers, pin_memory=on_cuda, persistent_workers=workers > 0
        )
        self.timings: dict[str, float] = {}
        self.waits = False
        self._clock = clock

    def round(self) -> None:
        """Train for one round, and score as many images as a round of the environment does."""
        self.train()
        self.score(self._task.config.score_images)

    def train(self) -> None:
        """Train for one round."""
        batches = iter(self._loader)
        for _ in range(self._task.iterations):
            with self._timed("data"):
                ir, vis, *bad = (image.to(self._task.device, non_blocking=True) for image in next(batches))
            loss = self.loss(ir=ir, vis=vis, bad_ir=bad[0], bad_vis=bad[1])
            with self._timed("backward"):
                self._optimizer.zero_grad()
                loss.backward()
            with self._timed("update"):
                self._optimizer.step()

    def loss(self, *, ir: Tensor, vis: Tensor, bad_ir: Tensor, bad_vis: Tensor) -> Tensor:
        """Return Eq. 3 of a mini-batch."""
        task = self._task
        with self._timed("teacher"), torch.no_grad():
            target = task.teacher.fuse_luma(ir=ir, vis=vis)
        with self._timed("student"):
            fused, fused_bad = self._student(ir=ir, vis=vis), self._student(ir=bad_ir, vis=bad_vis)
        with self._timed("perception"):
            guidance = guidance_loss(task.features(fused), task.features(target))
        return total_loss(guidance, self_learning_loss(fused, fused_bad), self._weights, task.scales)

    @torch.no_grad()
    def score(self, count: int | None) -> Scores:
        """Score the first images of the reward split one by one; None for all of them."""
        task, rows = self._task, []
        images = [(group, number) for group in task.scored for number in range(len(group))]
        with self._timed("scoring"):
            for group, number in images[:count]:
                ir, vis, _ = group.batch(torch.tensor([number], device=task.device))
                fused = self._student(ir=ir, vis=vis)
                values = indicator_values(task.scorer.names, fused, ir=ir, vis=vis, quality=task.quality)
                rows.append({name: float(value) for name, value in values.items()})
        return {name: float(np.mean([row[name] for row in rows])) for name in task.scorer.names}

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = self._clock()
        yield
        if self.waits:
            wait_for(self._task.device)
        self.timings[part] = self.timings.get(part, 0.0) + self._clock() - start
