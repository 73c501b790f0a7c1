"""The report split: whole images that the agent never sees, scored when a run has ended."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion_env.cache import arithmetic, content_key, load_or_compute
from fusion_env.data import ImagePair, PairSource, Progress, load_pair, luma_levels, no_progress, rgb_to_ycbcr
from fusion_env.metrics import ssim_pair
from fusion_env.scoring import Scorer, indicator_values
from fusion_env.teachers import Teacher
from student.numerics import own_numerics

__all__ = ["REPORT_METRICS", "Report", "ReportSplit", "model_input"]

REPORT_METRICS = ("ag", "ei", "sd", "en", "vif", "ssim", "iqa")
"""Reported beside E; all but VIF and IQA are in nobody's objective."""

Report = dict[str, float]
"""``e`` (Eq. 6), ``mae`` and ``ssim_teacher`` (against the teacher's image), and `REPORT_METRICS`, each a mean."""

_VERSION = 1


def model_input(pair: ImagePair, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return infrared and visible luma (whole levels), float32 [1, 1, H, W], and chroma [1, 2, H, W], in 0..1."""
    vis = pair.vis.to(device)[None]
    chroma = rgb_to_ycbcr(vis.float() / 255)[:, 1:]
    return pair.ir.to(device).float()[None] / 255, luma_levels(vis).float() / 255, chroma


@dataclass(frozen=True, eq=False)
class ReportSplit:
    """Scores students on whole images; the teacher's images are made at the first use and cached on disk.

    Attributes:
        source: The pairs.
        indices: The report split.
        network: The teacher.
        quality: Quality score (IQA*).
        scorer: Gives the normalisation of E.
        colour: Score quality in colour.
        folder: Cache folder.
        device: Where to compute.
        progress: Progress display over the images for the teacher.
    """

    source: PairSource
    indices: tuple[int, ...]
    network: Teacher
    quality: nn.Module
    scorer: Scorer
    colour: bool
    folder: Path
    device: torch.device
    progress: Progress = no_progress

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
        path = self.folder / "report" / f"{key}.safetensors"
        stored = load_or_compute(path, lambda: {"fused": self.network.fuse_pair(load_pair(self.source, index)).half()})
        return stored["fused"].to(self.device).float()[None]

    @cached_property
    def _teacher_fingerprint(self) -> str:
        """Hashes all weights, or a whole folder of images: too slow to be done for every image of every report."""
        return self.network.fingerprint()

    @property
    def names(self) -> tuple[str, ...]:
        """What a report holds."""
        return ("e", *self._metrics, "mae", "ssim_teacher")

    @property
    def _metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*REPORT_METRICS, *self.scorer.names)))

    @own_numerics()
    def teacher(self) -> Report:
        """Score the teacher itself (once)."""
        return self._teacher_report

    @cached_property
    def _teacher_report(self) -> Report:
        return self._score(self.progress(self.indices, "teacher on the report split"), lambda ir, vis, target: target)

    @own_numerics()
    def score(self, student: nn.Module) -> Report:
        """Score a student, called as ``student(ir=ir, vis=luma)``."""
        return self._score(self.indices, lambda ir, vis, _: student(ir=ir, vis=vis))

    @torch.inference_mode()
    def _score(self, indices: Iterable[int], fuse: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Report:
        """Score ``fuse(ir, vis, target)`` on every image, and take the means."""
        rows = []
        for index in indices:
            ir, vis, chroma = model_input(load_pair(self.source, index), self.device)
            target = self.teacher_image(index)
            fused = fuse(ir, vis, target)
            values = self._values(fused, ir=ir, vis=vis, chroma=chroma)
            values["mae"] = (fused - target).abs().mean((1, 2, 3))
            values["ssim_teacher"] = ssim_pair(fused, target)
            rows.append({name: float(value) for name, value in values.items()})
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return {"e": self.scorer.score_e(means), **means}

    def _values(self, fused: Tensor, *, ir: Tensor, vis: Tensor, chroma: Tensor) -> dict[str, Tensor]:
        seen = chroma if self.colour else None
        return indicator_values(self._metrics, fused, ir=ir, vis=vis, quality=self.quality, chroma=seen)
