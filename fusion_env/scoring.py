"""Performance indicators (Eq. 4), their normalisation, the score E, the reward (Eq. 6), and when a run ends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_env import metrics
from fusion_env.config import INDICATORS, ScoringSettings
from fusion_env.data import Progress, no_progress, ycbcr_to_rgb
from fusion_env.errors import ConfigError
from fusion_env.metrics import ssim_pair
from fusion_env.metrics.levels import to_levels
from fusion_env.stored_images import StoredImages
from student.numerics import own_numerics
from student.on_cpu import quickest

__all__ = [
    "CHUNK_PIXELS",
    "PARITY_ROUNDS",
    "Fuse",
    "Rate",
    "Scorer",
    "Scores",
    "ends",
    "image_values",
    "indicator_values",
    "lost_reward",
    "reward",
]

Scores = dict[str, float]
"""Mean value of each metric over the scored images."""

Fuse = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Makes fused luma of infrared, visible luma and what the teacher made of them."""

Rate = Callable[[int, Tensor], Tensor]
"""Gives the values of some images of one size: number of the size, images on the device -> [`Scorer.columns`, B]."""

CHUNK_PIXELS = 2_000_000
"""Pixels that are scored at once: the paper's 294 images would not fit into memory together."""

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
    """Compute metrics of some fused images, all of them in the whole grey levels of an 8-bit file.

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
        seen = fused if chroma is None else ycbcr_to_rgb(torch.cat([fused, chroma], 1))
        values["iqa"] = quality(to_levels(seen) / 255)
    return {name: values[name] for name in names}


def image_values(
    names: Sequence[str], images: StoredImages, index: Tensor, fuse: Fuse, *, quality: nn.Module, colour: bool
) -> dict[str, Tensor]:
    """Score what `fuse` makes of some stored images: the one way to a number of the reward and of the report.

    Args:
        names: As for `indicator_values`; also ``"mae"`` and ``"ssim_teacher"`` (against the teacher's image) and
            ``"spread"`` (standard deviation within an image, 0..1).
        images: Infrared, visible, teacher's fused luma, and chroma where `colour` is set.
        index: Which of them.
        fuse: Called once, with all of them.
        quality: Quality score (IQA*).
        colour: Score quality in colour.

    Returns:
        For each name a float tensor [B].
    """
    ir, vis, target = images.batch(index)
    fused = fuse(ir, vis, target)
    if images.clean is not None:
        ir, vis = images.clean_batch(index)
    chroma = images.chroma_batch(index) if colour and images.chroma is not None else None
    indicators = [name for name in names if name not in _OF_FUSED]
    values = indicator_values(indicators, fused, ir=ir, vis=vis, quality=quality, chroma=chroma)
    values |= {name: of_fused(fused, target) for name, of_fused in _OF_FUSED.items() if name in names}
    return {name: values[name].float() for name in names}


_OF_FUSED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": lambda fused, target: (fused - target).abs().mean((1, 2, 3)),
    "ssim_teacher": ssim_pair,
    "spread": lambda fused, target: fused.std((1, 2, 3)),
}


def _means(values: Mapping[str, Tensor]) -> Scores:
    """Return the mean of each [B], read from the device all at once."""
    return dict(zip(values, torch.stack([value.mean() for value in values.values()]).tolist(), strict=True))


class Scorer:
    """Scores the images of the reward split against the teacher's, whose values are computed once.

    Attributes:
        names: Metrics.
        columns: What is computed of each image: the metrics, and the standard deviation within it, `spread`.
        images: What is scored.

    Args:
        settings: Score, normalisation and observation.
        images: What is scored, with the teacher's fused luma: images of one size together, whatever sizes there are.
        quality: Quality score (IQA*), on the images' device.
        progress: Progress display over the teacher's images.

    Raises:
        ConfigError: A mean of the teacher is too small to divide by, or there are too few images to draw from.
    """

    @own_numerics()
    def __init__(
        self,
        settings: ScoringSettings,
        images: Sequence[StoredImages],
        quality: nn.Module,
        progress: Progress = no_progress,
    ) -> None:
        self._settings = settings
        self.images = images
        self._quality = quality
        self._count = sum(map(len, images))
        if settings.score_images is not None and settings.score_images > self._count:
            raise ConfigError(
                f"score_images={settings.score_images} is more than the {self._count} images of the reward split: "
                "lower it, or leave it out to score all of them"
            )
        self.names = tuple(dict.fromkeys((*INDICATORS, *settings.score_metrics)))
        self.columns = (*self.names, "spread")
        of_target = partial(self.rate, lambda ir, vis, target: target)
        self._teacher = self._values(None, of_target, progress, "scores of the teacher")
        self.teacher_means = _means({name: self._teacher[name] for name in self.names})
        if settings.normalisation == "teacher":
            for name, mean in self.teacher_means.items():
                if not mean > _SMALLEST_MEAN:
                    raise ConfigError(
                        f"the teacher's mean {name.upper()} over the reward split is {mean:.3g}, too small to divide "
                        "by: check its fused images, or use normalisation='minmax' with minmax_bounds"
                    )

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Choose the images of one round, in ascending order, or None for all of them."""
        if self._settings.score_images is None:
            return None
        return np.sort(rng.choice(self._count, self._settings.score_images, replace=False))

    @own_numerics()
    def score(
        self,
        student: nn.Module,
        chosen: NDArray[np.int64] | None = None,
        progress: Progress = no_progress,
        rate: Rate | None = None,
    ) -> tuple[Scores, Scores, float]:
        """Score a student.

        Args:
            student: In any mode; called as ``student(ir=ir, vis=luma)``.
            chosen: Images from `draw`.
            progress: Progress display over them.
            rate: Does what `rate_student` does for this student; None for that.

        Returns:
            The student's and the teacher's raw means over the same images, and the standard deviation of the student's
            fused luma within an image (0..1; near 0 means that the student has collapsed to constant images).
        """
        values = self._values(chosen, rate or partial(self.rate_student, student), progress, "scores of the student")
        own = _means(values)
        spread = own.pop("spread")
        if chosen is None:
            return own, dict(self.teacher_means), spread
        return own, _means({name: self._teacher[name][chosen] for name in self.names}), spread

    def rate_student(self, student: nn.Module, size: int, index: Tensor) -> Tensor:
        """Return the values of what a student makes of some images; see `Rate`."""
        fuse = quickest(student)
        return self.rate(lambda ir, vis, _: fuse(ir=ir, vis=vis), size, index)

    def rate(self, fuse: Fuse, size: int, index: Tensor) -> Tensor:
        """Return the values of ``fuse(ir, vis, target)`` of some images; see `Rate`."""
        images, colour = self.images[size], self._settings.iqa_colour
        values = image_values(self.columns, images, index, fuse, quality=self._quality, colour=colour)
        return torch.stack([values[name] for name in self.columns])

    @torch.inference_mode()
    def _values(
        self, chosen: NDArray[np.int64] | None, rate: Rate, progress: Progress, title: str
    ) -> dict[str, Tensor]:
        """Return [B] for each of `columns`."""
        values = [rate(*piece) for piece in progress(list(self._pieces(chosen)), title)]
        return dict(zip(self.columns, torch.cat(values, dim=1), strict=True))

    def _pieces(self, chosen: NDArray[np.int64] | None) -> Iterator[tuple[int, Tensor]]:
        """Yield the chosen images in their order, so many of one size at once as memory allows."""
        if chosen is None:
            chosen = np.arange(self._count)
        first = 0
        for size, images in enumerate(self.images):
            index = chosen[(chosen >= first) & (chosen < first + len(images))] - first
            first += len(images)
            if len(index):
                at_once = max(1, CHUNK_PIXELS // images.ir[0].numel())
                for piece in torch.from_numpy(index).to(images.device).split(at_once):
                    yield size, piece

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
