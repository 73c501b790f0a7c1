"""The embedded feature network of Eq. 1: a small stand-in for VGG-19, trained on procedural scenes.

`experiments/weights/train_features.py` trains it; its card is ``fusion_env/assets/features.md``.
"""

import itertools
import os

import torch
from torch import Tensor, nn

from fusion_env.perception.base import FrozenNetwork, load_embedded
from fusion_env.perception.local_moments import local_moments
from student.layout import join

__all__ = ["MIN_SIZE", "EmbeddedFeatures", "load_embedded_features"]

MIN_SIZE = 16
"""Smallest height and width in pixels; the last tap has a sixteenth of the size."""

_WIDTHS = (8, 16, 24, 32, 48)
_CONTRAST_FLOOR = 0.03**2


class EmbeddedFeatures(FrozenNetwork):
    """Map luma to five feature tensors, at strides 1, 2, 4, 8 and 16 and with 8, 16, 24, 32 and 48 channels.

    The squared differences of the features, averaged per tap and summed over the taps (Eq. 1 of arXiv 2509.02424), rank
    changed images as 1 - SSIM does. The network sees the luma and the locally normalised luma, with SSIM's constant
    0.03^2 in the normalisation. The luma itself is a channel of the first tap, so that only equal images have distance
    zero, and is scaled up there: 1 - SSIM hardly minds a flat change of brightness, but a student must learn its
    teacher's. Taps are taken before the ReLU. The constructor loads nothing; see `load_embedded_features`.

    Attributes:
        tap_scale: [5], by which the taps are multiplied so that each has an equal share of the mean distance, the luma
            not counted.
        luma_scale: By which the luma in the first tap is multiplied besides, so that it has a fixed share.
    """

    tap_scale: Tensor
    luma_scale: Tensor

    def __init__(self) -> None:
        super().__init__(
            "embedded feature network (small network, trained on procedural scenes to rank like 1 - SSIM)",
            {"widths": _WIDTHS, "contrast_floor": _CONTRAST_FLOOR},
        )
        first = nn.Conv2d(2, _WIDTHS[0] - 1, 3, padding=1)
        deeper = [
            nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(inputs, outputs, 3, stride=2, padding=1))
            for inputs, outputs in itertools.pairwise(_WIDTHS)
        ]
        self.stages = nn.ModuleList([first, *deeper])
        self.register_buffer("tap_scale", torch.ones(len(_WIDTHS)))
        self.register_buffer("luma_scale", torch.ones(()))

    def forward(self, luma: Tensor) -> list[Tensor]:
        """Compute the taps; differentiable.

        Args:
            luma: [B, 1, H, W] in 0..1, H and W at least `MIN_SIZE`.

        Returns:
            Five tensors [B, channels, ceil(H / stride), ceil(W / stride)].

        Raises:
            ValueError: If the shape does not fit.
        """
        if luma.ndim != 4 or luma.shape[1] != 1 or min(luma.shape[-2:]) < MIN_SIZE:
            raise ValueError(
                f"luma must be [B, 1, H, W] with H and W at least {MIN_SIZE} pixels. Got {tuple(luma.shape)}."
            )
        mean, variance = local_moments(luma)
        normalised = (luma - mean) * (variance + _CONTRAST_FLOOR).rsqrt()
        weight = next(self.parameters())
        first = self.stages[0](join([luma, normalised], weight))
        scales = self.tap_scale.unbind()
        taps = [scales[0] * join([self.luma_scale * luma, first], weight)]
        features = join([luma, first], weight)
        for stage, scale in zip(self.stages[1:], scales[1:], strict=True):
            features = stage(features)
            taps.append(scale * features)  # now: the next stage overwrites them
        return taps


def load_embedded_features(weights: str | os.PathLike[str] | None = None) -> EmbeddedFeatures:
    """Build the network with trained weights, frozen and in evaluation mode.

    Args:
        weights: A file that `experiments/weights/train_features.py` wrote; the package's own without it.

    Returns:
        The network on the CPU, float32. Its weights are frozen; gradients flow to the input.

    Raises:
        MissingRequirementsError: If the package was installed without its assets.
        WeightsError: If the file cannot be read or does not fit.
    """
    return load_embedded(EmbeddedFeatures(), "features.safetensors", weights)
