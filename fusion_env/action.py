"""Seven numbers in [-1, 1] and what they mean: loss weights (Eq. 3) and a degradation.

| # | name | -1 | +1 | meaning |
|---|---|---|---|---|
| 0 | guidance logit | | | times `logit_scale`, then softmax with 1: weight of Eq. 1 |
| 1 | self-learning logit | | | weight of Eq. 2 |
| 2 | blur | off | 13 | Gaussian kernel size in pixels, odd |
| 3 | JPEG | off | 20 | quality, falling from 100 |
| 4 | brightness | off | 0.5 | range r of the factor U(1-r, 1+r) |
| 5 | contrast | off | 0.5 | range r of the factor U(1-r, 1+r) |
| 6 | noise | off | 0.1 | standard deviation |
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion_env.degradation import Degradation

__all__ = ["ACTION_NAMES", "ACTION_SIZE", "LossWeights", "decode_action", "encode_action"]

ACTION_NAMES = ("guidance_logit", "self_learning_logit", "blur", "jpeg", "brightness", "contrast", "noise")
ACTION_SIZE = len(ACTION_NAMES)

MAX_BLUR_KERNEL = 13
MIN_JPEG_QUALITY = 20
MAX_BRIGHTNESS = 0.5
MAX_CONTRAST = 0.5
MAX_NOISE_STD = 0.1


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
        action: Seven numbers; values outside [-1, 1] are clipped.
        logit_scale: Factor on the two logits before the softmax.
        guidance: False removes Eq. 1 exactly: its weight is 0 and the other's 1.
        self_learning: False removes Eq. 2 exactly.

    Returns:
        The loss weights and the degradation.

    Raises:
        ValueError: The shape is not (7,), or a number is not finite.
    """
    vector = np.asarray(action, dtype=np.float64)
    if vector.shape != (ACTION_SIZE,):
        raise ValueError(f"action must have shape ({ACTION_SIZE},). Got {vector.shape}")
    if not np.isfinite(vector).all():
        bad = [ACTION_NAMES[i] for i in np.flatnonzero(~np.isfinite(vector))]
        raise ValueError(f"action must be finite; {', '.join(bad)} is not. Got {vector.tolist()}")
    vector = np.clip(vector, -1.0, 1.0)
    share = 1.0 / (1.0 + math.exp(logit_scale * (vector[1] - vector[0])))
    if not self_learning:
        share = 1.0
    elif not guidance:
        share = 0.0
    blur, jpeg, brightness, contrast, noise = ((vector[2:] + 1.0) / 2.0).tolist()
    degradation = Degradation(
        blur_kernel=1 + 2 * round(blur * (MAX_BLUR_KERNEL - 1) / 2),
        jpeg_quality=round(100 - jpeg * (100 - MIN_JPEG_QUALITY)),
        brightness=brightness * MAX_BRIGHTNESS,
        contrast=contrast * MAX_CONTRAST,
        noise_std=noise * MAX_NOISE_STD,
    )
    return LossWeights(share, 1.0 - share), degradation


def encode_action(
    *,
    guidance: float = 0.5,
    blur_kernel: int = 1,
    jpeg_quality: int = 100,
    brightness: float = 0.0,
    contrast: float = 0.0,
    noise_std: float = 0.0,
    logit_scale: float = 3.0,
) -> NDArray[np.float32]:
    """Build the action vector that `decode_action` reads as the given values.

    Args:
        guidance: Weight of the guidance loss; the self-learning loss has the rest. The softmax reaches
            ``sigmoid(-2 * logit_scale)`` to ``sigmoid(2 * logit_scale)``, about 0.0025 to 0.9975 for 3.
        blur_kernel: Odd, 1 (off) to 13.
        jpeg_quality: 100 (off) to 20.
        brightness: 0 (off) to 0.5.
        contrast: 0 (off) to 0.5.
        noise_std: 0 (off) to 0.1.
        logit_scale: As for `decode_action`.

    Returns:
        float32, shape (7,), in [-1, 1].

    Raises:
        ValueError: A value is out of range.

    >>> encode_action(guidance=0.5, noise_std=0.1).tolist()
    [0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 1.0]
    """
    lowest = 1.0 / (1.0 + math.exp(2.0 * logit_scale))
    if not lowest <= guidance <= 1.0 - lowest:
        raise ValueError(
            f"guidance must be in {lowest:.4f}..{1.0 - lowest:.4f} at logit_scale={logit_scale}. Got {guidance}; "
            "the settings guidance=False and self_learning=False remove a loss exactly"
        )
    if blur_kernel % 2 != 1 or not 1 <= blur_kernel <= MAX_BLUR_KERNEL:
        raise ValueError(f"blur_kernel must be odd and in 1..{MAX_BLUR_KERNEL}. Got {blur_kernel}")
    fractions = {
        "jpeg_quality": (100 - jpeg_quality) / (100 - MIN_JPEG_QUALITY),
        "brightness": brightness / MAX_BRIGHTNESS,
        "contrast": contrast / MAX_CONTRAST,
        "noise_std": noise_std / MAX_NOISE_STD,
    }
    limits = {
        "jpeg_quality": f"{MIN_JPEG_QUALITY}..100",
        "brightness": f"0..{MAX_BRIGHTNESS}",
        "contrast": f"0..{MAX_CONTRAST}",
        "noise_std": f"0..{MAX_NOISE_STD}",
    }
    given = {"jpeg_quality": jpeg_quality, "brightness": brightness, "contrast": contrast, "noise_std": noise_std}
    for name, fraction in fractions.items():
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"{name} must be in {limits[name]}. Got {given[name]}")
    logit = math.log(guidance / (1.0 - guidance)) / (2.0 * logit_scale)
    logits = [logit, 0.0 - logit]  # not -logit, which would be -0.0 for equal weights
    strengths = [(blur_kernel - 1) / (MAX_BLUR_KERNEL - 1), *fractions.values()]
    return np.clip([*logits, *(2.0 * f - 1.0 for f in strengths)], -1.0, 1.0).astype(np.float32)
