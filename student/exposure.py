"""Brightness and contrast of a fused image, which the student cannot know, taken from its sources."""

from torch import Tensor, maximum

__all__ = ["with_exposure_of"]

_SMALLEST_VARIANCE = 1e-6


def with_exposure_of(fused: Tensor, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Give fused images the mean of their sources' average and the standard deviation of their maximum.

    The student's encoders normalise every feature map of either input first, so that its output is the same however
    bright an input is and however strong its contrast. One linear map for each image gives back what is lost; of the
    rules tried, this one comes nearest to the embedded teacher's images of real pairs (student/assets/student.md).

    Args:
        fused: [B, 1, H, W], what the student made.
        ir: Infrared, same shape, 0..1.
        vis: Visible luma, same shape, 0..1.

    Returns:
        The same shape and dtype; may leave 0..1. A flat fused image stays flat.
    """
    centred = fused.float()
    centred = centred - _mean(centred)
    brightest = maximum(ir, vis).float()
    wanted = _mean((brightest - _mean(brightest)).square())
    gain = (wanted / _mean(centred.square()).clamp_min(_SMALLEST_VARIANCE)).sqrt()
    return (centred * gain + (_mean(ir.float()) + _mean(vis.float())) / 2).to(fused.dtype)


def _mean(x: Tensor) -> Tensor:
    # Along rows first: one sum over a megapixel loses digits in some runtimes.
    return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)
