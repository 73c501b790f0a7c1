"""The action: numbers in [-1, 1] that mean loss weights (Eq. 3) and a degradation.

The table `COORDINATES` says what each number means. Decoding, encoding, the environment's manual page and the columns
of recorded rounds come from it. A new degradation (`fusion_env.degradation`) enters the action by an entry here.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion_env.degradation import DEGRADATIONS, Degradation
from fusion_env.errors import unknown_name

__all__ = [
    "ACTION_NAMES",
    "ACTION_SIZE",
    "COORDINATES",
    "LOGITS",
    "STRENGTHS",
    "Coordinate",
    "LossWeights",
    "Strength",
    "action_table",
    "decode_action",
    "encode_action",
    "even_action",
    "even_degradation",
]

_STEPS = {"any": 0, "whole": 1, "odd": 2}


@dataclass(frozen=True)
class Coordinate:
    """One number of the action.

    Attributes:
        name: Its name in recorded rounds, figures and messages.
        meaning: What it is, for people.
    """

    name: str
    meaning: str

    @property
    def ends(self) -> tuple[str, str]:
        """What -1 and +1 mean, for people."""
        return "least", "most"


@dataclass(frozen=True)
class Strength(Coordinate):
    """A number that stands for the strength of a degradation: off at -1, and in proportion up to `most` at +1.

    Attributes:
        setting: Field of `Degradation`.
        most: Strength at +1.
    """

    setting: str
    most: float

    @property
    def off(self) -> float:
        """The strength that leaves images as they are."""
        return getattr(Degradation, self.setting)

    @property
    def ends(self) -> tuple[str, str]:
        """What -1 and +1 mean, for people."""
        return f"{self.off:g} (off)", f"{self.most:g}"

    def to_strength(self, share: float) -> float:
        """Return the strength at a share 0..1 of the range, the nearest that there is."""
        distance = share * (self.most - self.off)
        step = _STEPS[DEGRADATIONS[self.setting].values]
        return self.off + (step * round(distance / step) if step else distance)

    def from_strength(self, value: float) -> float:
        """Return the share 0..1 of the range at which a strength lies.

        Raises:
            ValueError: It is out of range.
        """
        share = (value - self.off) / (self.most - self.off)
        odd = DEGRADATIONS[self.setting].values == "odd"
        if not 0.0 <= share <= 1.0 or (odd and value % 2 != 1):
            low, high = sorted((self.off, self.most))
            raise ValueError(f"{self.setting} must be {'odd and ' * odd}in {low:g}..{high:g}. Got {value}")
        return share


LOGITS = (
    Coordinate("guidance_logit", "logit of the guidance loss (imitation, Eq. 1), times `logit_scale`; softmax with 1"),
    Coordinate("self_learning_logit", "logit of the self-learning loss (insensitivity to degraded input, Eq. 2)"),
)
"""The coordinates of the loss weights."""

STRENGTHS = (
    Strength("blur", "side of the Gaussian blur kernel, odd, in pixels", "blur_kernel", 13),
    Strength("jpeg", "JPEG quality", "jpeg_quality", 20),
    Strength("brightness", "brightness range r; the factor of a sample is U(1-r, 1+r)", "brightness", 0.5),
    Strength("contrast", "contrast range r, likewise", "contrast", 0.5),
    Strength("noise", "standard deviation of the noise, images in 0..1", "noise_std", 0.1),
)
"""The coordinates of the degradation."""

COORDINATES: tuple[Coordinate, ...] = (*LOGITS, *STRENGTHS)
"""What each number of the action means, in order."""

ACTION_NAMES = tuple(coordinate.name for coordinate in COORDINATES)
ACTION_SIZE = len(COORDINATES)


@dataclass(frozen=True)
class LossWeights:
    """Weights of Eq. 3; they are not negative and sum to 1."""

    guidance: float
    self_learning: float


def decode_action(
    action: ArrayLike, *, logit_scale: float = 3.0, guidance: bool = True, self_learning: bool = True
) -> tuple[LossWeights, Degradation]:
    """Read an action vector.

    Args:
        action: A number for each of `COORDINATES`; values outside [-1, 1] are clipped.
        logit_scale: Factor on the two logits before the softmax.
        guidance: False removes Eq. 1 exactly: its weight is 0 and the other's 1.
        self_learning: False removes Eq. 2 exactly.

    Returns:
        The loss weights and the degradation.

    Raises:
        ValueError: The shape is wrong, or a number is not finite.
    """
    vector = np.asarray(action, dtype=np.float64)
    if vector.shape != (len(COORDINATES),):
        raise ValueError(f"action must have shape ({len(COORDINATES)},). Got {vector.shape}")
    if not np.isfinite(vector).all():
        bad = [COORDINATES[i].name for i in np.flatnonzero(~np.isfinite(vector))]
        raise ValueError(f"action must be finite; {', '.join(bad)} is not. Got {vector.tolist()}")
    vector = np.clip(vector, -1.0, 1.0)
    guidance_logit, self_learning_logit = vector[: len(LOGITS)]
    share = 1.0 / (1.0 + math.exp(logit_scale * (self_learning_logit - guidance_logit)))
    if not self_learning:
        share = 1.0
    elif not guidance:
        share = 0.0
    return LossWeights(share, 1.0 - share), _degradation(((vector[len(LOGITS) :] + 1.0) / 2.0).tolist())


def _degradation(shares: list[float]) -> Degradation:
    pairs = zip(STRENGTHS, shares, strict=True)
    values: dict[str, Any] = {strength.setting: strength.to_strength(share) for strength, share in pairs}
    return Degradation(**values)


def encode_action(*, guidance: float = 0.5, logit_scale: float = 3.0, **strengths: float) -> NDArray[np.float32]:
    """Build the action vector that `decode_action` reads as the given values.

    Args:
        guidance: Weight of the guidance loss; the self-learning loss has the rest. The softmax reaches
            ``sigmoid(-2 * logit_scale)`` to ``sigmoid(2 * logit_scale)``, about 0.0025 to 0.9975 for 3.
        logit_scale: As for `decode_action`.
        **strengths: Fields of `Degradation`, within the ranges of `STRENGTHS`; off where left out.

    Returns:
        float32, a number for each of `COORDINATES`, in [-1, 1].

    Raises:
        ValueError: A value is out of range.
        UnknownNameError: There is no such strength; the message suggests the nearest one.

    >>> action = dict(zip(ACTION_NAMES, encode_action(guidance=0.5, noise_std=0.1).tolist()))
    >>> action["guidance_logit"], action["blur"], action["noise"]
    (0.0, -1.0, 1.0)
    """
    lowest = 1.0 / (1.0 + math.exp(2.0 * logit_scale))
    if not lowest <= guidance <= 1.0 - lowest:
        raise ValueError(
            f"guidance must be in {lowest:.4f}..{1.0 - lowest:.4f} at logit_scale={logit_scale}. Got {guidance}; "
            "the settings guidance=False and self_learning=False remove a loss exactly"
        )
    known = [strength.setting for strength in STRENGTHS]
    for name in strengths:
        if name not in known:
            raise unknown_name("strength", name, known)
    shares = [strength.from_strength(strengths.get(strength.setting, strength.off)) for strength in STRENGTHS]
    logit = math.log(guidance / (1.0 - guidance)) / (2.0 * logit_scale)
    logits = [logit, 0.0 - logit]  # not -logit, which would be -0.0 for equal weights
    return np.clip([*logits, *(2.0 * share - 1.0 for share in shares)], -1.0, 1.0).astype(np.float32)


def even_degradation(share: float) -> Degradation:
    """Return the degradation in which every strength is at the same share 0..1 of its range."""
    return _degradation([share] * len(STRENGTHS))


def even_action(share: float, *, guidance: float = 0.5, logit_scale: float = 3.0) -> NDArray[np.float32]:
    """Return the action at the same share 0..1 of every strength's range, such as one for an agent to start from.

    Unlike what `encode_action` makes of `even_degradation`, nothing is rounded to a strength that there is.

    Args:
        share: 0 is off, 1 the most.
        guidance: Weight of the guidance loss, as for `encode_action`.
        logit_scale: As for `decode_action`.

    >>> action = dict(zip(ACTION_NAMES, even_action(0.25).tolist()))
    >>> action["guidance_logit"], action["blur"], action["noise"]
    (0.0, -0.5, -0.5)
    """
    action = encode_action(guidance=guidance, logit_scale=logit_scale)
    action[len(LOGITS) :] = 2.0 * share - 1.0
    return action


def action_table() -> str:
    """Return the rows of the manual page's table: number, meaning, at -1, at +1."""
    rows = ((str(number), c.meaning, *c.ends) for number, c in enumerate(COORDINATES))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
