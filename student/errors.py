"""Exceptions that several modules raise."""

__all__ = ["ImageError"]


class ImageError(ValueError):
    """An image or a folder of images cannot be used."""
