"""The report split: whole images that the agent never sees, scored when a run has ended."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from fusion_env.data import ImagePair, Progress, luma_levels, no_progress, rgb_to_ycbcr
from fusion_env.scoring import Fuse, Scorer, image_values
from fusion_env.whole_images import WholeImages
from student.numerics import own_numerics
from student.on_cpu import quickest

__all__ = ["REPORT_METRICS", "Report", "ReportSplit", "model_input"]

REPORT_METRICS = ("ag", "ei", "sd", "en", "vif", "ssim", "iqa")
"""Reported beside E, whatever E is made of."""

Report = dict[str, float]
"""``e`` (Eq. 6), ``mae`` and ``ssim_teacher`` (against the teacher's image), and `REPORT_METRICS`, each a mean."""


def model_input(pair: ImagePair, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return infrared and visible luma (whole levels), float32 [1, 1, H, W], and chroma [1, 2, H, W], in 0..1."""
    vis = pair.vis.to(device)[None]
    chroma = rgb_to_ycbcr(vis.float() / 255)[:, 1:]
    return pair.ir.to(device).float()[None] / 255, luma_levels(vis).float() / 255, chroma


@dataclass(frozen=True, eq=False)
class ReportSplit:
    """Scores students on whole images, the same way as the reward does.

    Attributes:
        images: The pairs and what the teacher makes of them.
        indices: The report split.
        quality: Quality score (IQA*).
        scorer: Gives the normalisation of E.
        colour: Score quality in colour.
        progress: Progress display over the images for the teacher.
    """

    images: WholeImages
    indices: tuple[int, ...]
    quality: nn.Module
    scorer: Scorer
    colour: bool
    progress: Progress = no_progress

    @property
    def names(self) -> tuple[str, ...]:
        """What a report holds."""
        return ("e", *self._values)

    @property
    def _values(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*REPORT_METRICS, *self.scorer.names, "mae", "ssim_teacher")))

    @own_numerics()
    def teacher(self) -> Report:
        """Score the teacher itself (once)."""
        return self._teacher_report

    @cached_property
    def _teacher_report(self) -> Report:
        return self._score(self.progress(self.indices, "teacher on the report split"), lambda ir, vis, target: target)

    @own_numerics()
    def score(self, student: Callable[..., Tensor]) -> Report:
        """Score a student, or anything else that fuses, called as ``student(ir=ir, vis=luma)``."""
        fuse = quickest(student)
        return self._score(self.indices, lambda ir, vis, _: fuse(ir=ir, vis=vis))

    @torch.inference_mode()
    def _score(self, indices: Iterable[int], fuse: Fuse) -> Report:
        """Score ``fuse(ir, vis, target)`` on every image, one at a time, and take the means."""
        alone = torch.zeros(1, dtype=torch.long, device=self.images.device)
        rows = []
        for index in indices:
            image = self.images.load(index)
            values = image_values(self._values, image, alone, fuse, quality=self.quality, colour=self.colour)
            rows.append({name: float(value) for name, value in values.items()})
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return {"e": self.scorer.score_e(means), **means}
