"""Image files of every format and what is left of them after damage, for the tests of all that read images."""

import io

import cv2
import numpy as np
from hypothesis import strategies as st
from PIL import Image

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)

ENCODINGS: dict[str, tuple[str, dict]] = {
    "PNG": ("PNG", {}),
    "JPEG": ("JPEG", {}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "BMP": ("BMP", {}),
    "TIFF": ("TIFF", {}),
    "LZW TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    "deflated TIFF": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "JPEG TIFF": ("TIFF", {"compression": "jpeg"}),
    "WebP": ("WEBP", {}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "GIF": ("GIF", {}),
    "PPM": ("PPM", {}),
}

_HEADS = (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"P5 ")


def encoded(format_: str, pixels: np.ndarray = RGB, **options: object) -> bytes:
    """Return the file of a picture."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format_, **options)
    return stream.getvalue()


def _sixteen_bit(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, pixels.astype(np.uint16) * 257)[1].tobytes()


def _with_exif(format_: str) -> bytes:
    exif = Image.Exif()
    exif[274], exif[271] = 6, "maker"
    return encoded(format_, exif=exif)


_WHOLE = {
    **{name: encoded(format_, **options) for name, (format_, options) in ENCODINGS.items()},
    **{f"16-bit {suffix}": _sixteen_bit(suffix, GREY) for suffix in (".png", ".tif", ".pgm")},
    **{f"16-bit colour {suffix}": _sixteen_bit(suffix, RGB) for suffix in (".png", ".tif", ".ppm")},
    "12-bit PGM": b"P5 2 2 4095\n" + bytes(range(8)),
    **{f"turned {format_}": _with_exif(format_) for format_ in ("JPEG", "PNG", "WEBP", "TIFF")},
}


def any_bytes() -> st.SearchStrategy[bytes]:
    """Return bytes that often begin like an image file."""
    return st.builds(bytes.__add__, st.sampled_from(_HEADS), st.binary(max_size=200))


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    """Return an image file with a few wrong bytes, cut off somewhere."""
    data = bytearray(_WHOLE[draw(st.sampled_from(sorted(_WHOLE)))])
    for place, value in draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)):
        data[int(place * len(data))] = value
    return bytes(data[: int(draw(st.floats(0, 1)) * len(data)) + 1])
