"""Brightness and contrast of a fused image, which the student cannot know, taken from its sources."""

import torch
from torch import Tensor, maximum, minimum

__all__ = ["with_exposure_of"]

_DARKEST = 1e-4
_SMALLEST = 1e-3
_FLATTEST = 1e-12
_STEEPEST = 8.0
_LARGEST_STEP = 1.0
_STEPS = 4
"""After which mean and deviation are met to a thousandth or so."""


def with_exposure_of(fused: Tensor, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Give fused images the mean of their sources' average, and the contrast of their maximum or minimum.

    The student's encoders normalise every feature map of either input first, so that its output is the same however
    bright an input is and however strong its contrast. One affine map of the logits for each image gives back what is
    lost, without clipping: the mean of both sources, and the standard deviation of their pixelwise maximum or minimum,
    whichever has more of it. Of the rules tried, this one comes nearest to the embedded teacher's images
    (student/assets/student.md). Where one source is the other's negative neither has any: half of the sources' own is
    the least.

    Args:
        fused: [B, 1, H, W] in 0..1, what the student made.
        ir: Infrared, same shape, 0..1.
        vis: Visible luma, same shape, 0..1.

    Returns:
        The same shape and dtype, 0..1. A flat fused image stays flat.
    """
    ir, vis = ir.float(), vis.float()
    level = ((_mean(ir) + _mean(vis)) / 2).clamp(_SMALLEST, 1 - _SMALLEST)
    least = maximum(_deviation(ir), _deviation(vis)) / 2
    wanted = maximum(maximum(_deviation(maximum(ir, vis)), _deviation(minimum(ir, vis))), least)
    logits = fused.float().clamp(_DARKEST, 1 - _DARKEST).logit()
    # The grids of transposed convolutions, of periods 2, 4 and 8, are not in step with this one.
    sample = logits[..., ::3, ::3]
    gain, offset = torch.ones_like(level), level.logit()
    centre, spread = _mean(sample), _deviation(sample).clamp_min(_SMALLEST)
    sample = (sample - centre) / spread
    for _ in range(_STEPS):
        gain = (gain * wanted / _deviation((sample * gain + offset).sigmoid()).clamp_min(_DARKEST)).clamp_max(_STEEPEST)
        shown = (sample * gain + offset).sigmoid()
        slope = _mean(shown * (1 - shown)).clamp_min(_DARKEST)
        offset = offset + ((level - _mean(shown)) / slope).clamp(-_LARGEST_STEP, _LARGEST_STEP)
    gain = gain / spread
    return torch.addcmul(offset - centre * gain, logits, gain).sigmoid().to(fused.dtype)


def _deviation(x: Tensor) -> Tensor:
    return _mean((x - _mean(x)).square()).clamp_min(_FLATTEST).sqrt()


def _mean(x: Tensor) -> Tensor:
    # Along rows first: one sum over a megapixel loses digits in some runtimes.
    return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)
