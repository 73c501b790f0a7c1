"""Changes of a luma image that the embedded networks learn to judge."""

import cv2
import numpy as np

from experiments.weights.images import Image

__all__ = [
    "PATTERNS",
    "add_noise",
    "add_pattern",
    "add_ringing",
    "compress",
    "denoise",
    "gaussian_blur",
    "scale_contrast",
    "sharpen",
    "shift",
    "shrink",
    "warp",
]

PATTERNS = ("checkerboard", "rows", "columns", "rings")
"""Regular patterns, such as networks leave behind."""


def gaussian_blur(image: Image, sigma_px: float) -> Image:
    """Blur with a Gaussian of the given standard deviation; border reflected."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def denoise(image: Image, noise_std: float) -> Image:
    """Smooth what differs by less than a few ``noise_std`` from its surroundings, as cameras do, and keep edges."""
    return cv2.bilateralFilter(image, 7, 3 * noise_std, 2.0)


def sharpen(image: Image, sigma_px: float, amount: float) -> Image:
    """Mask unsharp: add ``amount`` times what a Gaussian blur takes away, and clip."""
    return (image + np.float32(amount) * (image - gaussian_blur(image, sigma_px))).clip(0, 1)


def compress(image: Image, quality: int) -> Image:
    """Encode and decode with JPEG, quality 1 to 100."""
    levels = np.floor(image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.float32) / 255


def add_noise(image: Image, noise: Image, std: float) -> Image:
    """Add ``std`` times a standard normal field and clip."""
    return (image + np.float32(std) * noise).clip(0, 1)


def add_pattern(image: Image, kind: str, period_px: float, height: float) -> Image:
    """Add one of `PATTERNS`, of ``height`` up and down, and clip; rings lie around the image's middle."""
    rows, columns = np.indices(image.shape, dtype=np.float32)
    if kind == "rings":
        middle_row, middle_column = (side / 2 for side in image.shape)
        wave = np.sin(np.hypot(rows - middle_row, columns - middle_column) * (2 * np.pi / period_px))
    else:
        # Half a pixel keeps samples off the changes of sign, so that period 2 alternates from pixel to pixel.
        signs = [np.where(((place + 0.5) / period_px) % 1 < 0.5, 1, -1) for place in (rows, columns)]
        wave = {"checkerboard": signs[0] * signs[1], "rows": signs[0], "columns": signs[1]}[kind]
    return (image + np.float32(height) * wave.astype(np.float32)).clip(0, 1)


def add_ringing(image: Image, reach_px: float, strength: float) -> Image:
    """Add the echoes that a sharp low-pass leaves beside every edge, ``strength`` times, and clip.

    They are the difference of an ideal low-pass of cut-off 1 / (2 reach) and a Gaussian one of the same pass band.
    """
    border = int(4 * reach_px)
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REFLECT_101)
    frequency = np.hypot(np.fft.fftfreq(padded.shape[0])[:, None], np.fft.rfftfreq(padded.shape[1])[None])
    cut_off = 1 / (2 * reach_px)
    response = (frequency < cut_off) - np.exp(-0.5 * (frequency / cut_off) ** 2 * 2 * np.log(2))
    echoes = np.fft.irfft2(np.fft.rfft2(padded) * response, padded.shape)[border:-border, border:-border]
    return (image + np.float32(strength) * echoes.astype(np.float32)).clip(0, 1)


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
