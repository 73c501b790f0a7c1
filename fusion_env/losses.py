"""The three training losses of the student (arXiv 2509.02424, Eq. 1-3), one function for each equation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from fusion_env.action import LossWeights
from student.layout import is_channels_last

__all__ = ["LossScales", "guidance_loss", "self_learning_loss", "total_loss"]


@dataclass(frozen=True)
class LossScales:
    """What each loss is divided by before it is weighted; 1 leaves the raw values.

    Raises:
        ValueError: If a scale is not a positive finite number.
    """

    guidance: float = 1.0
    self_learning: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(
                    f"LossScales.{name} must be positive and finite. Got {value!r}: measure it on a batch "
                    "for which this loss does not vanish."
                )


def guidance_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    """Compare features of the student's and the teacher's fused images (arXiv 2509.02424, Eq. 1).

    ``sum over taps l of mean((phi_l(student) - phi_l(teacher))^2)``; the mean runs over batch, channels and pixels.

    Args:
        student_features: One tensor [B, C_l, H_l, W_l] for each tap.
        teacher_features: The same for the teacher; constants, no gradient flows into them.

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: If the number of taps or the shape of one differs, or there is none.
    """
    shapes = [tuple(feature.shape) for feature in student_features]
    teacher_shapes = [tuple(feature.shape) for feature in teacher_features]
    if shapes != teacher_shapes or not shapes:
        raise ValueError(f"features must have the same shapes at every tap. Got {shapes} and {teacher_shapes}.")
    taps = zip(student_features, teacher_features, strict=True)
    distances = [_mean_square(student, teacher.detach()) for student, teacher in taps]
    return sum(distances[1:], distances[0])


def _mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    if is_channels_last(student):  # the loss's gradient is in the order of the dimensions, whatever the images' is
        student, teacher = student.movedim(1, -1), teacher.movedim(1, -1)
    return F.mse_loss(student, teacher)


def self_learning_loss(
    fused_original: Tensor, fused_degraded: Tensor, kind: str = "l1", detach_original: bool = True
) -> Tensor:
    """Compare the student's output for clean and for degraded inputs (arXiv 2509.02424, Eq. 2).

    Every constant image is an optimum of this loss alone, so it needs the guidance loss or a watch on the output's
    contrast beside it.

    Args:
        fused_original: Student's fused images for the original inputs, [B, 1, H, W].
        fused_degraded: Student's fused images for the degraded inputs, same shape.
        kind: ``"l1"`` (mean absolute difference) or ``"l2"`` (mean squared difference) over batch and pixels.
        detach_original: Treat ``fused_original`` as a constant target, so that only the degraded branch is trained.

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: If ``kind`` is unknown or the shapes differ.
    """
    distances = {"l1": F.l1_loss, "l2": F.mse_loss}
    if kind not in distances:
        raise ValueError(f"kind must be 'l1' or 'l2'. Got {kind!r}.")
    if fused_original.shape != fused_degraded.shape:
        raise ValueError(
            f"fused images must have the same shape. Got {tuple(fused_original.shape)} and "
            f"{tuple(fused_degraded.shape)}."
        )
    target = fused_original.detach() if detach_original else fused_original
    return distances[kind](fused_degraded, target)


def total_loss(
    guidance: Tensor | None, self_learning: Tensor | None, weights: LossWeights, scales: LossScales | None = None
) -> Tensor:
    """Weight and add the two losses (arXiv 2509.02424, Eq. 3).

    ``w_g * guidance / s_g + w_s * self_learning / s_s``. A loss of weight 0 is left out altogether, so that it
    contributes no gradient, not even an undefined one, and need not be computed.

    Args:
        guidance: Value of Eq. 1; None is allowed where its weight is 0.
        self_learning: Value of Eq. 2; None is allowed where its weight is 0.
        weights: The action's weights.
        scales: Divisors of the raw losses; None means 1 for both, the paper's literal equation.

    Returns:
        A scalar.

    Raises:
        ValueError: If a loss with a positive weight is missing, or both weights are 0.
    """
    scales = scales or LossScales()
    terms = []
    for name, loss in (("guidance", guidance), ("self_learning", self_learning)):
        weight = getattr(weights, name)
        if weight == 0:
            continue
        if loss is None:
            raise ValueError(f"{name} has weight {weight} but its loss is None: compute it, or set the weight to 0.")
        terms.append(loss * (weight / getattr(scales, name)))
    if not terms:
        raise ValueError("at least one loss needs a positive weight. Got 0 for guidance and self_learning.")
    return sum(terms[1:], terms[0])
