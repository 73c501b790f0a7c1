"""Random cameras: the tone curves, blur, noise and compression that real infrared and visible pictures come with."""

from dataclasses import dataclass

import cv2
import numpy as np

from experiments.weights.changes import compress, gaussian_blur
from experiments.weights.images import Image

__all__ = ["Camera", "draw_camera"]

_TONES = {
    # Name: share, range of what black becomes, range of what is added to it for white.
    "full": (0.55, (-0.1, 0.2), (0.5, 1.1)),
    "dark": (0.15, (-0.05, 0.05), (0.15, 0.5)),
    "flat": (0.15, (0.1, 0.6), (0.1, 0.3)),
    "bright": (0.15, (0.2, 0.5), (0.5, 1.0)),
}


@dataclass(frozen=True)
class Camera:
    """Settings of one camera.

    Attributes:
        inverted: Whether black and white change places, as in infrared with black for hot.
        gamma: Exponent of the tone curve.
        black: Level that the darkest pixels get; may lie below 0, where it clips.
        gain: Difference of the levels of the brightest and the darkest pixels.
        blur: Standard deviation in pixels, 0 for none.
        noise: Standard deviation of the noise, in levels of 0..1.
        grain: Standard deviation in pixels that the noise is blurred with, 0 for none.
        pattern: Standard deviation of fixed noise of columns and rows.
        quality: Of the JPEG file, 0 for none.
        equalised: Share of contrast-limited adaptive histogram equalisation.
    """

    inverted: bool
    gamma: float
    black: float
    gain: float
    blur: float
    noise: float
    grain: float
    pattern: float
    quality: int
    equalised: float

    def see(self, picture: Image, rng: np.random.Generator) -> Image:
        """Return what the camera makes of a picture, rounded to 8 bits: float32 in 0..1."""
        low, high = np.quantile(picture[::4, ::4], (0.01, 0.99))
        tone = ((picture - low) / max(high - low, 0.05)).clip(0, 1.5).astype(np.float32)
        tone = (1 - tone).clip(0, 1) if self.inverted else tone
        tone = self.black + self.gain * tone**self.gamma
        if self.blur > 0:
            tone = gaussian_blur(tone, self.blur)
        height, width = tone.shape
        noise = rng.standard_normal(tone.shape, np.float32)
        if self.grain > 0:
            noise = gaussian_blur(noise, self.grain)
            noise /= noise.std()
        tone = tone + self.noise * noise
        tone = tone + self.pattern * rng.standard_normal((1, width), np.float32)
        tone = tone + self.pattern * rng.standard_normal((height, 1), np.float32)
        levels = np.floor(tone.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        if self.equalised > 0:
            adapted = cv2.createCLAHE(2.0, (4, 4)).apply(levels)
            levels = cv2.addWeighted(adapted, self.equalised, levels, 1 - self.equalised, 0)
        seen = levels.astype(np.float32) / 255
        return compress(seen, self.quality) if self.quality else seen


def draw_camera(rng: np.random.Generator, *, infrared: bool) -> Camera:
    """Draw a camera; infrared ones are blurred more, may be inverted, and are equalised more often."""
    name = str(rng.choice(list(_TONES), p=[share for share, _, _ in _TONES.values()]))
    _, black, gain = _TONES[name]
    return Camera(
        inverted=infrared and rng.random() < 0.2,
        gamma=float(2 ** rng.uniform(-1, 1.2)),
        black=float(rng.uniform(*black)),
        gain=float(rng.uniform(*gain)),
        blur=float(rng.uniform(0.3, 1.6 if infrared else 1.0)) if rng.random() < 0.5 else 0.0,
        noise=float(0.04 * rng.random() ** 2),
        grain=float(rng.uniform(0.4, 1.2)) if rng.random() < 0.5 else 0.0,
        pattern=float(0.008 * rng.random() ** 2) if infrared else 0.0,
        quality=int(rng.integers(40, 96)) if rng.random() < 0.4 else 0,
        equalised=float(rng.random()) if rng.random() < (0.3 if infrared else 0.1) else 0.0,
    )
