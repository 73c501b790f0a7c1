"""Changes of a luma image that the embedded networks learn to judge."""

import cv2
import numpy as np

from experiments.weights.images import Image

__all__ = ["add_noise", "compress", "gaussian_blur", "scale_contrast", "shift", "shrink", "warp"]


def gaussian_blur(image: Image, sigma_px: float) -> Image:
    """Blur with a Gaussian of the given standard deviation; border reflected."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def compress(image: Image, quality: int) -> Image:
    """Encode and decode with JPEG, quality 1 to 100."""
    levels = np.floor(image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.float32) / 255


def add_noise(image: Image, noise: Image, std: float) -> Image:
    """Add ``std`` times a standard normal field and clip."""
    return (image + np.float32(std) * noise).clip(0, 1)


def scale_contrast(image: Image, factor: float) -> Image:
    """Scale the distance from the image's mean and clip."""
    mean = image.mean()
    return (mean + np.float32(factor) * (image - mean)).clip(0, 1)


def warp(image: Image, noise: Image, distance_px: float) -> Image:
    """Displace pixels by a smooth random field of up to ``distance_px``."""
    field = gaussian_blur(noise, 6.0)
    field *= np.float32(distance_px) / np.abs(field).max()
    rows, columns = np.indices(image.shape, dtype=np.float32)
    return cv2.remap(image, columns + field, rows + field[::-1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def shift(image: Image, distance_px: float) -> Image:
    """Move the image to the right and half as far down."""
    matrix = np.array([[1, 0, distance_px], [0, 1, distance_px / 2]], np.float32)
    size = image.shape[::-1]
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def shrink(image: Image, factor: float) -> Image:
    """Lose resolution: shrink by ``factor`` and enlarge again."""
    height, width = image.shape
    small = cv2.resize(image, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
