"""Rough cameras: they blur, expose wrongly and add noise, so that what is seen of a pair is not the pair itself.

Blur and noise reach beyond what the actions of the environment can imitate, and gamma, noise that grows with the light
and fixed patterns are none of their degradations: a student cannot be trained on these cameras, only prepared for them.
"""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from fusion_env.data.pairs import ImagePair

__all__ = ["CAMERA_VERSION", "Camera", "draw_camera", "through_cameras"]

CAMERA_VERSION = 1
"""Number of the cameras; it must grow whenever the same seed gives other pixels (caches depend on it)."""


@dataclass(frozen=True)
class Camera:
    """Settings of one camera.

    Attributes:
        blur_sigma_px: Standard deviation of the lens blur.
        gain: Factor of the exposure.
        gamma: Exponent of the tone curve; above 1 darkens.
        noise_std: Standard deviation of the noise at black, in levels of 0..1; at white it is twice that.
        pattern_std: Standard deviation of fixed noise of columns and rows, likewise.
    """

    blur_sigma_px: float
    gain: float
    gamma: float
    noise_std: float
    pattern_std: float

    def see(self, levels: Tensor, rng: np.random.Generator) -> Tensor:
        """Return what the camera makes of a picture, uint8 [C, H, W] for uint8 [C, H, W]."""
        picture: np.ndarray = levels.permute(1, 2, 0).numpy().astype(np.float32) / 255
        if self.blur_sigma_px > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur_sigma_px).reshape(picture.shape)
        picture = self.gain * np.power(picture, np.float32(self.gamma))
        height, width, _ = picture.shape
        noise = rng.standard_normal(picture.shape, np.float32)
        picture = picture + self.noise_std * (1 + np.clip(picture, 0, 1)) * noise
        picture = picture + self.pattern_std * rng.standard_normal((1, width, 1), np.float32)
        picture = picture + self.pattern_std * rng.standard_normal((height, 1, 1), np.float32)
        return torch.from_numpy(_levels(picture)).permute(2, 0, 1).contiguous()


def _levels(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_camera(rng: np.random.Generator, *, infrared: bool) -> Camera:
    """Draw a camera; infrared ones have patterns, too."""
    return Camera(
        blur_sigma_px=float(3 * rng.random() ** 2),
        gain=float(2 ** rng.uniform(-1.0, 0.5)),
        gamma=float(2 ** rng.uniform(-0.5, 0.5)),
        noise_std=float(0.1 * rng.random()),
        pattern_std=float(0.02 * rng.random()) if infrared else 0.0,
    )


def through_cameras(pair: ImagePair, seed: int) -> ImagePair:
    """Return what is seen of a pair, by an infrared and a visible camera of its own that know nothing of each other.

    Args:
        pair: The pair; its name decides the cameras, together with the seed.
        seed: Seed of all cameras.
    """
    seen = []
    for side, levels in enumerate((pair.ir, pair.vis)):
        rng = np.random.default_rng([CAMERA_VERSION, seed, zlib.crc32(pair.name.encode()), side])
        seen.append(draw_camera(rng, infrared=side == 0).see(levels, rng))
    return ImagePair(pair.name, *seen)
