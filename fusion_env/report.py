"""The report split: whole images that the agent never sees, scored when a run has ended."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion_env.cache import content_key, load_or_compute
from fusion_env.data import ImagePair, PairSource, Progress, luma_levels, no_progress, rgb_to_ycbcr
from fusion_env.metrics import ssim_pair
from fusion_env.scoring import Scorer, indicator_values
from fusion_env.teachers import Teacher

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


class ReportSplit:
    """Scores students on whole images; the teacher's images are made at the first use and cached on disk.

    Args:
        source: The pairs.
        indices: The report split.
        teacher: The teacher.
        quality: Quality score (IQA*).
        scorer: Gives the normalisation of E.
        colour: Score quality in colour.
        folder: Cache folder.
        device: Where to compute.
        progress: Progress display over the images for the teacher.
    """

    def __init__(
        self,
        source: PairSource,
        indices: tuple[int, ...],
        teacher: Teacher,
        quality: nn.Module,
        scorer: Scorer,
        *,
        colour: bool,
        folder: Path,
        device: torch.device,
        progress: Progress = no_progress,
    ) -> None:
        self.source = source
        self.indices = indices
        self._teacher_network = teacher
        self._quality = quality
        self._scorer = scorer
        self._colour = colour
        self._folder = folder
        self._device = device
        self._progress = progress
        self._teacher_report: Report | None = None

    def teacher_image(self, index: int) -> Tensor:
        """Return the teacher's fused luma of a pair, float32 [1, 1, H, W] in 0..1."""
        teacher = self._teacher_network
        key = content_key(
            {
                "version": _VERSION,
                "data": self.source.fingerprint(),
                "name": self.source.names[index],
                "teacher": self._teacher_fingerprint,
            }
        )
        path = self._folder / "report" / f"{key}.safetensors"
        stored = load_or_compute(path, lambda: {"fused": teacher.fuse_pair(self.source.load(index)).half()})
        return stored["fused"].to(self._device).float()[None]

    @cached_property
    def _teacher_fingerprint(self) -> str:
        """Hashes all weights, or a whole folder of images: too slow to be done for every image of every report."""
        return self._teacher_network.fingerprint()

    def teacher(self) -> Report:
        """Score the teacher itself (once)."""
        if self._teacher_report is None:
            self._teacher_report = self._score(None)
        return self._teacher_report

    def score(self, student: nn.Module) -> Report:
        """Score a student, called as ``student(ir=ir, vis=luma)``."""
        return self._score(student)

    @torch.inference_mode()
    def _score(self, student: nn.Module | None) -> Report:
        rows = []
        indices = self._progress(self.indices, "teacher on the report split") if student is None else self.indices
        for index in indices:
            ir, vis, chroma = model_input(self.source.load(index), self._device)
            target = self.teacher_image(index)
            fused = target if student is None else student(ir=ir, vis=vis)
            values = self._values(fused, ir=ir, vis=vis, chroma=chroma)
            values["mae"] = (fused - target).abs().mean((1, 2, 3))
            values["ssim_teacher"] = ssim_pair(fused, target)
            rows.append({name: float(value) for name, value in values.items()})
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return {"e": self._scorer.score_e(means), **means}

    def _values(self, fused: Tensor, *, ir: Tensor, vis: Tensor, chroma: Tensor) -> dict[str, Tensor]:
        names = tuple(dict.fromkeys((*REPORT_METRICS, *self._scorer.names)))
        seen = chroma if self._colour else None
        return indicator_values(names, fused, ir=ir, vis=vis, quality=self._quality, chroma=seen)
