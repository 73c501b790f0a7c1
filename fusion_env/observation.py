"""What the agent sees (Eq. 4): the student's indicators, how far it has to go, and what the last round did."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion_env.action import ACTION_SIZE
from fusion_env.config import INDICATORS, ScoringSettings
from fusion_env.losses import LossScales
from fusion_env.scoring import Scorer, Scores

__all__ = ["OBSERVATIONS", "Observer", "observation_size", "observation_table", "sees_time"]

_SMALLEST = 1e-8
_COUNT = len(INDICATORS)
_NAMES = "; ".join(f"{name.upper()}, {meaning}" for name, meaning in INDICATORS.items())


@dataclass(frozen=True)
class _Part:
    size: int
    meaning: str


_PARTS = {
    "performance": _Part(_COUNT, f"`obs_scale` x (value / stage-0 student's value - 1), how far it has come: {_NAMES}"),
    "gap": _Part(_COUNT, "`obs_scale` x (student - teacher) / teacher's mean of the same, how far there is to go"),
    "mean performance": _Part(1, "mean of the indicators"),
    "mean gap": _Part(1, "mean of the differences"),
    "change": _Part(_COUNT, "`obs_scale` x change of the same since the round before, divided by the teacher's mean"),
    "losses": _Part(2, "logarithm of guidance and self-learning loss, each relative to the stage-0 student's"),
    "share": _Part(1, "share of the guidance loss in the gradient's norm"),
    "action": _Part(ACTION_SIZE, "the last action"),
    "time": _Part(1, "used fraction of the rounds"),
}

OBSERVATIONS: dict[str, tuple[str, ...]] = {
    "vector": ("performance", "gap"),
    "vector+time": ("performance", "gap", "time"),
    "rich": ("performance", "gap", "change", "losses", "share", "action", "time"),
    "scalar": ("mean performance", "mean gap"),
    "performance": ("performance",),
    "gap": ("gap",),
}
"""What each choice of the setting `observation` is made of, in order."""


def observation_size(kind: str) -> int:
    """Return the number of observed values for a setting of `observation`."""
    return sum(_PARTS[part].size for part in OBSERVATIONS[kind])


def sees_time(kind: str) -> bool:
    """Tell whether the agent sees the end of the budget come, which is then a termination."""
    return "time" in OBSERVATIONS[kind]


def observation_table(kind: str) -> str:
    """Return the rows of the manual page's table: numbers and meaning of each part."""
    rows, start = [], 0
    for part in OBSERVATIONS[kind]:
        end = start + _PARTS[part].size - 1
        rows.append(f"| {start if start == end else f'{start} to {end}'} | {_PARTS[part].meaning} |")
        start = end + 1
    return "\n".join(rows)


class Observer:
    """Makes observations of the scores and of what a round did.

    Args:
        settings: Kind and scale of the observation, and the normalisation.
        scorer: Normalises scores.
        start: Raw means of the stage-0 student over the whole reward split.
        losses: The losses of the stage-0 student; only `rich` looks at them.
    """

    def __init__(self, settings: ScoringSettings, scorer: Scorer, start: Scores, losses: LossScales) -> None:
        self._settings, self._scorer, self._start, self._losses = settings, scorer, start, losses

    def observe(
        self,
        student: Scores,
        teacher: Scores,
        *,
        before: Scores | None = None,
        losses: tuple[float, float] | None = None,
        guidance_share: float = math.nan,
        action: Sequence[float] = (0.0,) * ACTION_SIZE,
        used_budget: float = 0.0,
    ) -> NDArray[np.float32]:
        """Build an observation, float32, clipped to [-10, 10].

        Args:
            student: Raw means of the student.
            teacher: Raw means of the teacher over the same images.
            before: Raw means of the student a round ago; None before the first round: nothing has changed.
            losses: Means of Eq. 1 and Eq. 2 over the round; None before the first: those of stage 0.
            guidance_share: Of the gradient's norm; NaN, where there was no gradient, is seen as one half.
            action: The last action; zeros before the first round.
            used_budget: Rounds used, as a fraction.

        Returns:
            As many numbers as `observation_size` says.
        """
        own, other = self._scorer.normalised(student), self._scorer.normalised(teacher)
        earlier = own if before is None else self._scorer.normalised(before)
        performance, gap, change = (
            self._settings.obs_scale * np.array(values)
            for values in (
                self._progress(student),
                [own[name] - other[name] for name in INDICATORS],
                [own[name] - earlier[name] for name in INDICATORS],
            )
        )
        values = {
            "performance": performance,
            "gap": gap,
            "mean performance": [performance.mean()],
            "mean gap": [gap.mean()],
            "change": change,
            "losses": self._relative(losses),
            "share": [0.5 if math.isnan(guidance_share) else guidance_share],
            "action": action,
            "time": [used_budget],
        }
        vector = np.concatenate([values[part] for part in OBSERVATIONS[self._settings.observation]])
        return np.clip(vector, -10.0, 10.0).astype(np.float32)

    def _progress(self, student: Scores) -> list[float]:
        start = self._start
        if self._settings.normalisation == "minmax":
            own, first = self._scorer.normalised(student), self._scorer.normalised(start)
            return [own[name] - first[name] for name in INDICATORS]
        return [(student[name] - start[name]) / max(start[name], _SMALLEST) for name in INDICATORS]

    def _relative(self, losses: tuple[float, float] | None) -> list[float]:
        if losses is None:
            return [0.0, 0.0]
        stage0 = (self._losses.guidance, self._losses.self_learning)
        return [math.log(max(value, _SMALLEST) / scale) for value, scale in zip(losses, stage0, strict=True)]
