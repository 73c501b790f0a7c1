"""Batched image degradations, applied in the order of the table `DEGRADATIONS`.

The random part is drawn by :func:`draw_noise` and handed to :func:`degrade`, which is a pure function of its arguments.
Strengths and random numbers are independent: changing one strength changes no draw. arXiv 2509.02424 only names the
degradations; the order and the ranges are choices of this project.

A new degradation is a field of :class:`Degradation`, a function, and an entry of `DEGRADATIONS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fusion_env.filters import filter_by, gaussian_window, reflecting_bands
from fusion_env.jpeg import jpeg_by_codec, jpeg_on_device, quantisation_table

__all__ = [
    "DEGRADATIONS",
    "Degradation",
    "DegradationNoise",
    "DegradationTensors",
    "Operation",
    "degrade",
    "degrade_by_tensors",
    "draw_noise",
]


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

    def has(self, name: str) -> bool:
        """Tell whether one degradation is on."""
        return getattr(self, name) != getattr(type(self), name)


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
def degrade(images: Tensor, degradation: Degradation, noise: DegradationNoise, *, by_codec: bool = False) -> Tensor:
    """Apply every degradation that is on, in the order of `DEGRADATIONS`.

    Values are clamped to 0..1 after each of brightness, contrast and noise. A degradation that is off is skipped, so a
    :class:`Degradation` with default strengths returns ``images`` itself. Nothing is recorded for autograd.

    Args:
        images: Luma images [B, 1, H, W], float, 0..1.
        degradation: Strengths, shared by the batch.
        noise: Random part from :func:`draw_noise` for the same shape, on the same device.
        by_codec: Let real codecs do what they can, on the host, wherever the images are; the result is the same.

    Returns:
        Degraded images, same shape, dtype and device, 0..1.

    Raises:
        ValueError: If the shapes do not fit, or an image is too small for the blur kernel's reflected border.
    """
    _check_batch(images, degradation, noise)
    for name, operation in DEGRADATIONS.items():
        if degradation.has(name):
            apply = operation.by_codec if by_codec and operation.by_codec is not None else operation.apply
            images = apply(images, getattr(degradation, name), noise)
    return images


class DegradationTensors:
    """A degradation as tensors of fixed shapes and places, for a graph that is captured once and serves every one.

    Args:
        images: A batch like those that will be degraded; only shape, dtype and device matter.
    """

    def __init__(self, images: Tensor) -> None:
        self._images = images
        off = Degradation()
        values = {name: one.tensor(getattr(off, name), images) for name, one in DEGRADATIONS.items()}
        self.strengths = {name: value.to(images.device, copy=True) for name, value in values.items()}
        self.on = {name: torch.zeros((), dtype=torch.bool, device=images.device) for name in DEGRADATIONS}

    def set(self, degradation: Degradation) -> None:
        """Take over the strengths of a degradation."""
        for name, strength in self.strengths.items():
            strength.copy_(DEGRADATIONS[name].tensor(getattr(degradation, name), self._images))
            self.on[name].fill_(degradation.has(name))


@torch.no_grad()
def degrade_by_tensors(images: Tensor, degradation: DegradationTensors, noise: DegradationNoise) -> Tensor:
    """Do what `degrade` does, in the same operations whatever is on: what is off is computed and left unused."""
    for name, strength in degradation.strengths.items():
        images = torch.where(degradation.on[name], DEGRADATIONS[name].apply(images, strength, noise), images)
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


def _blur(images: Tensor, strength: float | Tensor, noise: DegradationNoise) -> Tensor:
    matrices = strength if isinstance(strength, Tensor) else _blur_matrices(strength, images)
    height, width = images.shape[-2:]
    rows, columns = matrices.split([height**2, width**2])
    return filter_by(images, rows.view(height, height), columns.view(width, width))


def _blur_matrices(strength: float, images: Tensor) -> Tensor:
    kernel = int(strength)
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    return torch.cat([band.flatten() for band in reflecting_bands(gaussian_window(kernel, sigma), images)])


def _factor(strength: float | Tensor, uniform: Tensor, images: Tensor) -> Tensor:
    return (1 + strength * uniform).to(images.dtype).view(-1, 1, 1, 1)


def _brightness(images: Tensor, strength: float | Tensor, noise: DegradationNoise) -> Tensor:
    return (images * _factor(strength, noise.brightness, images)).clamp_(0, 1)


def _contrast(images: Tensor, strength: float | Tensor, noise: DegradationNoise) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean, images - mean, _factor(strength, noise.contrast, images)).clamp_(0, 1)


def _add_noise(images: Tensor, strength: float | Tensor, noise: DegradationNoise) -> Tensor:
    return (noise.noise.to(images.dtype) * strength).add_(images).clamp_(0, 1)


def _jpeg(images: Tensor, strength: float | Tensor, noise: DegradationNoise) -> Tensor:
    # Both give the same levels. On a CPU the codec takes a quarter of the time; elsewhere it would stall the device.
    if images.device.type == "cpu" and not isinstance(strength, Tensor):
        return _jpeg_by_codec(images, strength, noise)
    return jpeg_on_device(images, strength if isinstance(strength, Tensor) else int(strength))


def _jpeg_by_codec(images: Tensor, strength: float, noise: DegradationNoise) -> Tensor:
    return jpeg_by_codec(images, int(strength))


def _jpeg_table(strength: float, images: Tensor) -> Tensor:
    return quantisation_table(int(strength), images.device)


def _number(strength: float, images: Tensor) -> Tensor:
    return torch.tensor(strength, dtype=torch.float32)


@dataclass(frozen=True)
class Operation:
    """What one degradation does.

    Attributes:
        apply: Called as ``apply(images, strength, noise)`` where the strength is not off; returns new images. The
            strength is a number, or what `tensor` made of it.
        limits: Lowest and highest strength.
        values: Which strengths between them there are: any, whole numbers, or odd numbers.
        tensor: Called as ``tensor(strength, images)``; returns what stands for the strength of such images, in a shape
            that does not depend on it.
        by_codec: Does what `apply` does with a real codec on the host; None where there is none.
    """

    apply: Callable[[Tensor, Any, DegradationNoise], Tensor]
    limits: tuple[float, float] = (0.0, 1.0)
    values: Literal["any", "whole", "odd"] = "any"
    tensor: Callable[[float, Tensor], Tensor] = _number
    by_codec: Callable[[Tensor, float, DegradationNoise], Tensor] | None = None


DEGRADATIONS: dict[str, Operation] = {
    "blur_kernel": Operation(_blur, (1, 31), "odd", _blur_matrices),
    "brightness": Operation(_brightness),
    "contrast": Operation(_contrast),
    "noise_std": Operation(_add_noise),
    "jpeg_quality": Operation(_jpeg, (1, 100), "whole", _jpeg_table, _jpeg_by_codec),
}
"""The degradations by their field in `Degradation`, in the order in which they are applied."""
