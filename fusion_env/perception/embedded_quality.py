"""The embedded quality score: a small no-reference network trained on procedural scenes.

It stands in for CLIP-IQA where nothing may be downloaded. `experiments/weights/train_quality.py` trains it; its card is
``fusion_env/assets/quality.md``.
"""

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion_env.data.colour import rgb_to_luma
from fusion_env.perception.base import FrozenNetwork, load_embedded
from fusion_env.perception.local_moments import local_moments

__all__ = ["MIN_SIZE", "EmbeddedQuality", "load_embedded_quality"]

MIN_SIZE = 41
"""Smallest height and width in pixels; the receptive field of one window of the score is 37."""

_WIDTHS = (16, 32, 48)
_HIDDEN = 48
_WINDOW, _WINDOW_STRIDE = 6, 2
_VARIANCE_FLOOR = 1e-5
_CLIP_BAND = 0.02


class EmbeddedQuality(FrozenNetwork):
    """Score how clear images are, without a reference.

    Three unpadded convolutions (strides 2, 2, 1) see the luma, the locally normalised luma, the logarithm of the local
    deviation, and how near each pixel is to either end of the range. A window of 37 pixels, every 8, is described by
    the means and deviations of the features in it and gets a logit and a weight; the score is the sigmoid of the
    weighted mean logit. Only local windows are pooled, so that crops and whole images are on one scale.

    The score is in (0, 1), higher is better. Blur, noise, compression, loss of contrast and clipping lower it; it
    knows nothing of what is shown. The constructor loads nothing; see `load_embedded_quality`.
    """

    def __init__(self) -> None:
        super().__init__(
            "embedded quality score (small network, rank-trained on procedural scenes)",
            {
                "widths": _WIDTHS,
                "hidden": _HIDDEN,
                "window": (_WINDOW, _WINDOW_STRIDE),
                "variance_floor": _VARIANCE_FLOOR,
                "clip_band": _CLIP_BAND,
            },
        )
        first, second, third = _WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(5, first, 5, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 3),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(nn.Conv2d(2 * third, _HIDDEN, 1), nn.ReLU(inplace=True), nn.Conv2d(_HIDDEN, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Score a batch.

        Args:
            images: Luma [B, 1, H, W] or RGB [B, 3, H, W], of which the luma is scored; float, 0..1, H and W at least
                `MIN_SIZE`.

        Returns:
            One score per image, [B], in (0, 1).

        Raises:
            ValueError: If the shape does not fit.
        """
        return torch.sigmoid(self.logits(images))

    def logits(self, images: Tensor) -> Tensor:
        """Return the scores of `forward` before the sigmoid, [B]."""
        features = self.body(_describe_pixels(_as_luma(images)))
        mean = F.avg_pool2d(features, _WINDOW, _WINDOW_STRIDE)
        # The small constant keeps the root's gradient finite where a feature is constant.
        variance = F.avg_pool2d(features.square(), _WINDOW, _WINDOW_STRIDE) - mean.square()
        logit, weight = self.head(torch.cat([mean, (variance.clamp_min(0) + 1e-6).sqrt()], dim=1)).unbind(dim=1)
        weight = F.softplus(weight) + 1e-3
        return (weight * logit).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _as_luma(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(f"images must be float [B, 1 or 3, H, W]. Got {images.dtype} {tuple(images.shape)}.")
    if min(images.shape[-2:]) < MIN_SIZE:
        raise ValueError(f"images must be at least {MIN_SIZE} pixels high and wide. Got {tuple(images.shape[-2:])}.")
    return rgb_to_luma(images) if images.shape[1] == 3 else images


def _describe_pixels(luma: Tensor) -> Tensor:
    """Return the five input planes of the network, [B, 5, H, W]."""
    mean, variance = local_moments(luma)
    deviation = (variance + _VARIANCE_FLOOR).sqrt()
    near_white = (luma / _CLIP_BAND - (1 / _CLIP_BAND - 1)).clamp(0, 1)
    near_black = (1 - luma / _CLIP_BAND).clamp(0, 1)
    return torch.cat([luma, (luma - mean) / deviation, deviation.log() / 4 + 1, near_white, near_black], dim=1)


def load_embedded_quality(weights: str | os.PathLike[str] | None = None) -> EmbeddedQuality:
    """Build the score with trained weights, frozen and in evaluation mode.

    Args:
        weights: A file that `experiments/weights/train_quality.py` wrote; the package's own without it.

    Returns:
        The score on the CPU, float32.

    Raises:
        MissingRequirementsError: If the package was installed without its assets.
        WeightsError: If the file cannot be read or does not fit.
    """
    return load_embedded(EmbeddedQuality(), "quality.safetensors", weights)
