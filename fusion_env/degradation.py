"""Batched image degradations, applied in the order of the table `DEGRADATIONS`.

The random part is drawn by :func:`draw_noise` and handed to :func:`degrade`, which is a pure function of its arguments.
Strengths and random numbers are independent: changing one strength changes no draw. arXiv 2509.02424 only names the
degradations; the order and the ranges are choices of this project.

A new degradation is a field of :class:`Degradation`, a function, and an entry of `DEGRADATIONS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fusion_env.filters import filter_reflected, gaussian_window
from fusion_env.jpeg import jpeg_by_codec, jpeg_on_device

__all__ = ["DEGRADATIONS", "Degradation", "DegradationNoise", "Operation", "degrade", "draw_noise"]


@dataclass(frozen=True)
class Degradation:
    """Strengths of the degradations; the defaults leave every image bit for bit as it is.

    Attributes:
        blur_kernel: Side of the Gaussian blur kernel in pixels, odd, 1 to 31; 1 is off. The standard deviation follows
            OpenCV's rule ``0.3 * ((k - 1) * 0.5 - 1) + 0.8``.
        jpeg_quality: Quality of the JPEG codec, 1 to 100; 100 is off (nothing is encoded).
        brightness: Range r of the brightness factor, 0 to 1; the factor of a sample is uniform in (1 - r, 1 + r).
        contrast: Range r of the contrast factor about the sample's mean, 0 to 1; drawn like the brightness factor.
        noise_std: Standard deviation of the additive Gaussian noise, 0 to 1, for images in 0..1.

    Raises:
        ValueError: If a strength is outside its range or not a finite number.
    """

    blur_kernel: int = 1
    jpeg_quality: int = 100
    brightness: float = 0.0
    contrast: float = 0.0
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            operation = DEGRADATIONS[name]
            low, high = operation.limits
            if not low <= value <= high:  # NaN fails this comparison as well
                raise ValueError(f"Degradation.{name} must lie in {low}..{high}. Got {value!r}.")
            if operation.values != "any" and int(value) != value:
                raise ValueError(f"Degradation.{name} must be a whole number. Got {value!r}.")
            if operation.values == "odd" and value % 2 == 0:
                raise ValueError(f"Degradation.{name} must be odd. Got {value!r}.")

    @property
    def is_identity(self) -> bool:
        """Whether every degradation is off."""
        return self == type(self)()


@dataclass(frozen=True)
class DegradationNoise:
    """Random part of a degradation, independent of the strengths.

    Attributes:
        brightness: Uniform in (-1, 1), shape [B].
        contrast: Uniform in (-1, 1), shape [B].
        noise: Standard normal, shape [B, 1, H, W].
    """

    brightness: Tensor
    contrast: Tensor
    noise: Tensor


def draw_noise(
    images_shape: Sequence[int], generator: torch.Generator, device: str | torch.device = "cpu"
) -> DegradationNoise:
    """Draw the random part for one batch, always in the same order and amount.

    Args:
        images_shape: Shape [B, 1, H, W] of the batch that will be degraded.
        generator: Source of randomness. Numbers are drawn on its own device; a generator on ``device`` avoids a copy.
        device: Where the result lives.

    Returns:
        The draws for every sample of the batch.
    """
    if len(images_shape) != 4:
        raise ValueError(f"images_shape must be [B, 1, H, W]. Got {tuple(images_shape)}.")
    source = generator.device
    # What a new degradation needs is drawn after these, so that the older ones get the numbers that they always got.
    uniform = torch.rand((2, images_shape[0]), generator=generator, device=source) * 2 - 1
    noise = torch.randn(tuple(images_shape), generator=generator, device=source)
    brightness, contrast = uniform.to(device)
    return DegradationNoise(brightness=brightness, contrast=contrast, noise=noise.to(device))


@torch.no_grad()
def degrade(images: Tensor, degradation: Degradation, noise: DegradationNoise) -> Tensor:
    """Apply every degradation that is on, in the order of `DEGRADATIONS`.

    Values are clamped to 0..1 after each of brightness, contrast and noise. A degradation that is off is skipped, so a
    :class:`Degradation` with default strengths returns ``images`` itself. Nothing is recorded for autograd.

    Args:
        images: Luma images [B, 1, H, W], float, 0..1.
        degradation: Strengths, shared by the batch.
        noise: Random part from :func:`draw_noise` for the same shape, on the same device.

    Returns:
        Degraded images, same shape, dtype and device, 0..1.

    Raises:
        ValueError: If the shapes do not fit, or an image is too small for the blur kernel's reflected border.
    """
    _check_batch(images, degradation, noise)
    for name, operation in DEGRADATIONS.items():
        strength = getattr(degradation, name)
        if strength != getattr(type(degradation), name):  # not off
            images = operation.apply(images, strength, noise)
    return images


def _check_batch(images: Tensor, degradation: Degradation, noise: DegradationNoise) -> None:
    if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point() or images.shape[0] == 0:
        raise ValueError(f"images must be float [B, 1, H, W] with B >= 1. Got {images.dtype} {tuple(images.shape)}.")
    if noise.noise.shape != images.shape:
        raise ValueError(f"noise was drawn for {tuple(noise.noise.shape)}, images are {tuple(images.shape)}.")
    side = min(images.shape[-2:])
    if side <= degradation.blur_kernel // 2:
        raise ValueError(
            f"images of {images.shape[-2]} x {images.shape[-1]} pixels are too small for blur_kernel "
            f"{degradation.blur_kernel}: the reflected border needs sides above {degradation.blur_kernel // 2} pixels."
        )


def _blur(images: Tensor, strength: float, noise: DegradationNoise) -> Tensor:
    kernel = int(strength)
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    return filter_reflected(images, gaussian_window(kernel, sigma))


def _factor(strength: float, uniform: Tensor, images: Tensor) -> Tensor:
    return (1 + strength * uniform).to(images.dtype).view(-1, 1, 1, 1)


def _brightness(images: Tensor, strength: float, noise: DegradationNoise) -> Tensor:
    return (images * _factor(strength, noise.brightness, images)).clamp_(0, 1)


def _contrast(images: Tensor, strength: float, noise: DegradationNoise) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean, images - mean, _factor(strength, noise.contrast, images)).clamp_(0, 1)


def _add_noise(images: Tensor, strength: float, noise: DegradationNoise) -> Tensor:
    return torch.add(images, noise.noise.to(images.dtype), alpha=strength).clamp_(0, 1)


def _jpeg(images: Tensor, strength: float, noise: DegradationNoise) -> Tensor:
    # Both give the same levels. On a CPU the codec takes a quarter of the time; elsewhere it would stall the device.
    return (jpeg_by_codec if images.device.type == "cpu" else jpeg_on_device)(images, int(strength))


@dataclass(frozen=True)
class Operation:
    """What one degradation does.

    Attributes:
        apply: Called as ``apply(images, strength, noise)`` where the strength is not off; returns new images.
        limits: Lowest and highest strength.
        values: Which strengths between them there are: any, whole numbers, or odd numbers.
    """

    apply: Callable[[Tensor, float, DegradationNoise], Tensor]
    limits: tuple[float, float] = (0.0, 1.0)
    values: Literal["any", "whole", "odd"] = "any"


DEGRADATIONS: dict[str, Operation] = {
    "blur_kernel": Operation(_blur, (1, 31), "odd"),
    "brightness": Operation(_brightness),
    "contrast": Operation(_contrast),
    "noise_std": Operation(_add_noise),
    "jpeg_quality": Operation(_jpeg, (1, 100), "whole"),
}
"""The degradations by their field in `Degradation`, in the order in which they are applied."""
