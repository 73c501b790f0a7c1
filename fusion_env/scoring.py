"""Performance indicators (Eq. 4), their normalisation, the score E, the reward (Eq. 6), and when a run ends."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fusion_env import metrics
from fusion_env.config import INDICATORS, ScoringSettings
from fusion_env.crop_bank import CropBank
from fusion_env.data import ycbcr_to_rgb
from fusion_env.errors import ConfigError
from student.numerics import own_numerics

__all__ = [
    "CHUNK_PIXELS",
    "PARITY_ROUNDS",
    "Scorer",
    "Scores",
    "ends",
    "indicator_values",
    "lost_reward",
    "reward",
]

Scores = dict[str, float]
"""Mean value of each metric over the scored images."""

CHUNK_PIXELS = 2_000_000
"""Pixels that are scored at once: the paper's 294 crops of 224 pixels would not fit into memory together."""

PARITY_ROUNDS = 3
"""Rounds running in which E must reach the teacher's to end a run."""

_SMALLEST_MEAN = 1e-6


def reward(gap: float, *, before: float, kind: str, lowest: float) -> float:
    """Return the reward of a round (Eq. 6).

    Args:
        gap: E(student) - E(teacher) after the round.
        before: The same before it.
        kind: ``"gap"``, or ``"gap_delta"`` for its change.
        lowest: The least that is paid, so that a finite round is never worse than a lost one.
    """
    return float(max(gap - before if kind == "gap_delta" else gap, lowest))


def lost_reward(rounds: int, *, each: float) -> float:
    """Return what is paid for the rounds that a run loses, so that breaking off never pays."""
    return each * rounds


def ends(rounds: int, *, budget: int, parity: int, sees_time: bool) -> tuple[bool, bool]:
    """Tell whether a run ends after a round.

    Args:
        rounds: Rounds trained so far.
        budget: Rounds of a whole run.
        parity: Rounds running in which E over the whole reward split was the teacher's or better; 0 where nobody asks.
        sees_time: The agent sees the end of the budget come, so that this is a termination.

    Returns:
        Terminated and truncated, as gymnasium has them.
    """
    reached = parity >= PARITY_ROUNDS
    used_up = rounds >= budget
    if sees_time:
        return reached or used_up, False
    return reached, used_up and not reached


def indicator_values(
    names: Sequence[str],
    fused: Tensor,
    *,
    ir: Tensor,
    vis: Tensor,
    quality: nn.Module,
    chroma: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute metrics of some fused images.

    Args:
        names: ``"iqa"`` or names known to `fusion_env.metrics`.
        fused: Fused luma [B, 1, H, W] in 0..1.
        ir: Infrared, same shape, 0..1.
        vis: Visible luma, same shape, 0..1.
        quality: Quality score (IQA*).
        chroma: Cb and Cr [B, 2, H, W] in 0..1 to score quality in colour; None scores the luma.

    Returns:
        For each name a tensor [B].
    """
    values = metrics.compute([name for name in names if name != "iqa"], fused, ir=ir, vis=vis)
    if "iqa" in names:
        seen = fused if chroma is None else ycbcr_to_rgb(torch.cat([fused, chroma], 1)).clamp(0, 1)
        values["iqa"] = quality(seen)
    return {name: values[name] for name in names}


class Scorer:
    """Scores fused crops of the reward split against the teacher's, whose values are computed once.

    Args:
        settings: Score, normalisation and observation.
        bank: The fixed scored crops with the teacher's fused luma.
        quality: Quality score (IQA*), on the bank's device.

    Raises:
        ConfigError: A mean of the teacher is too small to divide by.
    """

    @own_numerics()
    def __init__(self, settings: ScoringSettings, bank: CropBank, quality: nn.Module) -> None:
        self._settings = settings
        self._bank = bank
        self._quality = quality
        self.names = tuple(dict.fromkeys((*INDICATORS, *settings.score_metrics)))
        with torch.inference_mode():
            self._teacher = self._values(None, lambda ir, vis, target: target)
        self.teacher_means: Scores = {name: float(self._teacher[name].mean()) for name in self.names}
        if settings.normalisation == "teacher":
            for name, mean in self.teacher_means.items():
                if not mean > _SMALLEST_MEAN:
                    raise ConfigError(
                        f"the teacher's mean {name.upper()} over the reward split is {mean:.3g}, too small to divide "
                        "by: check its fused images, or use normalisation='minmax' with minmax_bounds"
                    )

    def draw(self, rng: np.random.Generator) -> Tensor | None:
        """Choose the crops of one round, or None for all of them."""
        if self._settings.score_images is None:
            return None
        chosen = rng.choice(len(self._bank), self._settings.score_images, replace=False)
        return torch.from_numpy(np.sort(chosen)).to(self._bank.ir.device)

    @own_numerics()
    @torch.inference_mode()
    def score(self, student: nn.Module, crops: Tensor | None = None) -> tuple[Scores, Scores, float]:
        """Score a student.

        Args:
            student: In any mode; called as ``student(ir=ir, vis=luma)``.
            crops: Crops from `draw`.

        Returns:
            The student's and the teacher's raw means over the same crops, and the standard deviation of the student's
            fused luma within an image (0..1; near 0 means that the student has collapsed to constant images).
        """
        values = self._values(crops, lambda ir, vis, _: student(ir=ir, vis=vis))
        own = {name: float(values[name].mean()) for name in self.names}
        spread = float(values["spread"].mean())
        if crops is None:
            return own, dict(self.teacher_means), spread
        return own, {name: float(self._teacher[name][crops].mean()) for name in self.names}, spread

    def _values(self, crops: Tensor | None, fuse: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Score ``fuse(ir, vis, target)`` of some crops: [B] for each metric, and the images' `spread`."""
        bank = self._bank
        index = torch.arange(len(bank), device=bank.ir.device) if crops is None else crops
        results: list[dict[str, Tensor]] = []
        for piece in index.split(max(1, CHUNK_PIXELS // bank.ir[0].numel())):
            ir, vis, target = bank.batch(piece)
            fused = fuse(ir, vis, target)
            chroma = None if bank.chroma is None else bank.chroma[piece].float() / 255
            values = indicator_values(self.names, fused, ir=ir, vis=vis, quality=self._quality, chroma=chroma)
            results.append({**values, "spread": fused.std((1, 2, 3))})
        return {name: torch.cat([result[name].float() for result in results]) for name in (*self.names, "spread")}

    def normalised(self, scores: Scores) -> dict[str, float]:
        """Bring raw means to a common scale.

        With ``normalisation="teacher"`` a value is divided by the teacher's mean over the whole reward split, so that
        the teacher is 1 on average; with ``"minmax"`` the given bounds map to 0 and 1.
        """
        if self._settings.normalisation == "teacher":
            return {name: scores[name] / self.teacher_means[name] for name in self.names}
        bounds = self._settings.minmax_bounds
        limits = {name: (bounds[2 * i], bounds[2 * i + 1]) for i, name in enumerate(INDICATORS)}
        return {name: (scores[name] - limits[name][0]) / (limits[name][1] - limits[name][0]) for name in self.names}

    def score_e(self, scores: Scores) -> float:
        """Return E of Eq. 6: the mean of the normalised `score_metrics`."""
        normalised = self.normalised(scores)
        return float(np.mean([normalised[name] for name in self._settings.score_metrics]))

    def gap(self, student: Scores, teacher: Scores) -> float:
        """Return E(student) - E(teacher)."""
        return self.score_e(student) - self.score_e(teacher)

    def at_parity(self, student: Scores) -> bool:
        """Tell whether a student's scores over the whole reward split give an E of at least the teacher's."""
        return self.score_e(student) >= self.score_e(self.teacher_means)
