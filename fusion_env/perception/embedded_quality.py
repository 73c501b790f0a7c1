"""The embedded quality score: a small no-reference network trained on procedural scenes.

It stands in for CLIP-IQA where nothing may be downloaded. `experiments/weights/train_quality.py` trains it; its card is
``fusion_env/assets/quality.md``.
"""

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion_env.data.colour import rgb_to_luma
from fusion_env.filters import filter_reflected
from fusion_env.perception.base import FrozenNetwork, load_embedded
from fusion_env.perception.local_moments import local_moments

__all__ = ["MIN_SIZE", "EmbeddedQuality", "load_embedded_quality"]

MIN_SIZE = 41
"""Smallest height and width in pixels; the receptive field of one window of the score is 37."""

_WIDTHS = (20, 32, 56)
_HIDDEN = 56
_WINDOW, _WINDOW_STRIDE = 6, 2
_TONE_CELL = 4
_SPREAD_FLOOR = 0.002
_VARIANCE_FLOOR = 4e-4
_CLIP_BAND = 0.02
_GRAIN_WINDOW = (6**-0.5, -2 * 6**-0.5, 6**-0.5)
_GRAIN_FLOOR = 1e-4
_LOW_SPREAD = 0.2
_DARKNESS = 0.3
_LOW_SHARE = 0.005


class EmbeddedQuality(FrozenNetwork):
    """Score how clear images are, without a reference.

    Contrast and clipping are judged apart from the rest. An image's tones are first brought to mean 0 and deviation 1,
    both taken over cells of 4x4 pixels, which noise and sharpening hardly change. Three unpadded convolutions (strides
    2, 2, 1) see these tones, the locally normalised tones, the logarithm of the local deviation, and how near each
    pixel is to the image's own brightest and darkest one, so that a linear change of tones alters nothing that they
    see. A window of 37 pixels, every 8, is described by the means and deviations of the features in it and gets a
    logit and a weight. Off the weighted mean logit go three terms of trained, positive weight: one rises as the
    deviation falls, relative to the brightness, and two with the share of pixels near either extreme. The score is the
    sigmoid of what is left.

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
                "tone_cell": _TONE_CELL,
                "spread_floor": _SPREAD_FLOOR,
                "variance_floor": _VARIANCE_FLOOR,
                "clip_band": _CLIP_BAND,
                "grain_floor": _GRAIN_FLOOR,
                "low_spread": _LOW_SPREAD,
                "darkness": _DARKNESS,
                "low_share": _LOW_SHARE,
            },
        )
        first, second, third = _WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(6, first, 5, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 3),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(nn.Conv2d(2 * third, _HIDDEN, 1), nn.ReLU(inplace=True), nn.Conv2d(_HIDDEN, 2, 1))
        self.penalties = nn.Parameter(torch.ones(3))

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
        luma = _as_luma(images).float()
        cells = F.avg_pool2d(luma, _TONE_CELL).flatten(1)
        spread = (cells.var(dim=1, correction=0) + _SPREAD_FLOOR**2).sqrt()
        brightness = cells.mean(dim=1)
        planes = _describe_pixels(luma, brightness, spread)
        features = self.body(planes)
        mean = F.avg_pool2d(features, _WINDOW, _WINDOW_STRIDE)
        # The small constant keeps the root's gradient finite where a feature is constant.
        variance = F.avg_pool2d(features.square(), _WINDOW, _WINDOW_STRIDE) - mean.square()
        logit, weight = self.head(torch.cat([mean, (variance.clamp_min(0) + 1e-6).sqrt()], dim=1)).unbind(dim=1)
        weight = F.softplus(weight) + 1e-3
        detail = (weight * logit).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
        clipped = planes[:, 4:].mean(dim=(2, 3))
        lost_contrast = _LOW_SPREAD * (brightness + _DARKNESS) / spread
        lost_tones = torch.cat([lost_contrast[:, None], clipped / _LOW_SHARE], dim=1)
        return detail - lost_tones.log1p() @ F.softplus(self.penalties)


def _as_luma(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(f"images must be float [B, 1 or 3, H, W]. Got {images.dtype} {tuple(images.shape)}.")
    if min(images.shape[-2:]) < MIN_SIZE:
        raise ValueError(f"images must be at least {MIN_SIZE} pixels high and wide. Got {tuple(images.shape[-2:])}.")
    return rgb_to_luma(images) if images.shape[1] == 3 else images


def _describe_pixels(luma: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Return the six input planes of the network, [B, 6, H, W]; mean and spread are [B]."""
    tones = (luma - mean[:, None, None, None]) / spread[:, None, None, None]
    local_mean, variance = local_moments(tones)
    deviation = (variance + _VARIANCE_FLOOR).sqrt()
    grain = (local_moments(filter_reflected(tones, _GRAIN_WINDOW))[1] + _GRAIN_FLOOR).sqrt()
    darkest, brightest = luma.amin(dim=(1, 2, 3), keepdim=True), luma.amax(dim=(1, 2, 3), keepdim=True)
    band = _CLIP_BAND * (brightest - darkest) + _SPREAD_FLOOR / 4
    near_white = (1 - (brightest - luma) / band).clamp_min(0)
    near_black = (1 - (luma - darkest) / band).clamp_min(0)
    detail = (tones - local_mean) / deviation
    return torch.cat([tones / 3, detail, deviation.log() / 2 + 1, grain.log() / 2 + 1, near_white, near_black], dim=1)


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
