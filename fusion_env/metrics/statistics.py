"""Metrics of the contrast of one image: the standard deviation."""

from torch import Tensor

from fusion_env.metrics.images import Images
from fusion_env.metrics.registry import metric

__all__ = ["sd"]


@metric(
    needs_sources=False,
    minimum_size=1,
    summary="population standard deviation",
    range="0..127.5",
)
def sd(images: Images) -> Tensor:
    """Compute the standard deviation (SD) of fused images.

    ``sqrt(mean((F - mean(F))^2))``, the population value. Higher is better (more contrast); 0 for a constant image, at
    most 127.5. At least 1x1 pixel.

    Source: Rao, "In-fibre Bragg grating sensors", Measurement Science and Technology 1997, as in VIFB, which calls it
    Variance. Variants: none in use; division by M N - 1 is not visible in the published digits.

    Returns:
        ``[B]``; float32 is within 1e-6 of float64.
    """
    levels = images.fused
    # About a whole number near the mean, a constant image has exactly 0, and nothing is lost to cancellation.
    centred = levels - levels.mean(dim=(1, 2, 3), keepdim=True).round_()
    mean = centred.mean(dim=(1, 2, 3))
    return centred.square_().mean(dim=(1, 2, 3)).sub_(mean.square()).clamp_(min=0.0).sqrt_()
