"""16-bit files of every kind: right where it is certain, refused with a way out where not; alike for all readers."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from student.errors import ImageError
from student.images import read_infrared, read_luma, read_visible
from student.sixteen_bit import Scale

LEVELS = np.random.default_rng(0).integers(0, 256, (24, 30), dtype=np.uint16)
COLOURS = np.random.default_rng(1).integers(0, 256, (24, 30, 3), dtype=np.uint16)

STORED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "8 bits": (lambda levels: levels, 8),
    "10 bits": (lambda levels: levels << 2, 10),
    "12 bits": (lambda levels: levels << 4, 12),
    "14 bits": (lambda levels: levels << 6 | levels >> 2, 14),
}
"""How 8-bit levels lie in 16 bits, and how many of these are in use."""

AMBIGUOUS = {
    **{name: store for name, (store, _) in STORED.items()},
    "raw counts": lambda levels: (7300 + levels * 0.9).astype(np.uint16),
    "raw counts far up": lambda levels: (40000 + levels * 40).astype(np.uint16),
    "mask": lambda levels: levels // 128,
    "one value": lambda levels: np.full_like(levels, 3000),
}


def save(path: Path, values: np.ndarray) -> Path:
    picture = values if values.ndim == 2 else values[..., ::-1]
    assert cv2.imwrite(str(path), picture.astype(np.uint16))
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
@pytest.mark.parametrize("read", [read_infrared, read_visible, read_luma])
@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_would_be_black_or_flat_is_refused(tmp_path: Path, kind: str, read: Callable, suffix: str) -> None:
    values = AMBIGUOUS[kind](LEVELS)
    path = save(tmp_path / f"a.{suffix}", values)
    with pytest.raises(ImageError) as caught:
        read(path)
    assert f"a.{suffix}: 16-bit values span only {values.min()} to {values.max()} of 0 to 65535" in str(caught.value)
    assert "bit_depth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dead_pixels_hide_no_flat_picture(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(7300, 7530, (200, 200))
    counts[[3, 50], [7, 90]] = 0, 65535
    with pytest.raises(ImageError, match=r"span only 73\d\d to 75\d\d of 0 to 65535"):
        read_infrared(save(tmp_path / "a.png", counts))


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_colour_is_refused_alike(tmp_path: Path, kind: str, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", AMBIGUOUS[kind](COLOURS))
    with pytest.raises(ImageError, match="16-bit values span only"):
        read_visible(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "ppm"])
@pytest.mark.parametrize("kind", STORED)
def test_the_bit_depth_brings_the_levels_back(tmp_path: Path, kind: str, suffix: str) -> None:
    store, bits = STORED[kind]
    levels = LEVELS if suffix != "ppm" else COLOURS
    found = read_visible(save(tmp_path / f"a.{suffix}", store(levels)), Scale(bits))
    expected = levels if levels.ndim == 3 else np.stack([levels] * 3, axis=2)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_values_beyond_the_bit_depth(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", LEVELS << 4)
    with pytest.raises(
        ImageError, match=r"a\.png: 16-bit values span \d+ to 4080, but bit_depth=10 ends at 1023: .* 12"
    ):
        read_infrared(path, Scale(10))


@pytest.mark.parametrize("kind", [kind for kind in AMBIGUOUS if kind not in ("mask", "one value")])
def test_stretching(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "a.png", AMBIGUOUS[kind](LEVELS))
    found = read_infrared(path, Scale(stretch=True))
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found.astype(int) - LEVELS).max() <= 3
    constant = save(tmp_path / "b.png", np.full((4, 4), 500))
    assert not read_infrared(constant, Scale(stretch=True)).any()


@pytest.mark.parametrize("factor", [256, 257])
def test_widened_levels_are_exact_however_dark(tmp_path: Path, factor: int) -> None:
    for levels in (LEVELS // 8, np.zeros_like(LEVELS)):
        path = save(tmp_path / "a.png", levels * factor)
        assert np.array_equal(read_infrared(path), levels)


def test_eight_bit_files_have_no_scale(tmp_path: Path) -> None:
    Image.fromarray(LEVELS.astype(np.uint8) // 8).save(tmp_path / "a.png")
    for scale in (Scale(), Scale(12), Scale(stretch=True)):
        assert np.array_equal(read_infrared(tmp_path / "a.png", scale), LEVELS // 8)


@pytest.mark.parametrize("maxval", [300, 1000, 1023, 4095, 16383])
@pytest.mark.parametrize("plain", [False, True])
def test_pgm_says_what_is_white(tmp_path: Path, maxval: int, plain: bool) -> None:
    values = np.random.default_rng(0).integers(0, maxval + 1, (24, 30), dtype=np.uint16)
    header = f"{'P2' if plain else 'P5'} 30 24 {maxval}\n".encode()
    data = " ".join(map(str, values.flat)).encode() if plain else values.astype(">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(header + data)
    expected = np.floor(values * 255.0 / maxval + 0.5)
    assert np.array_equal(read_infrared(tmp_path / "a.pgm"), expected)
    assert np.array_equal(read_infrared(tmp_path / "a.pgm", Scale(16)), np.floor(values * 255.0 / 65535 + 0.5))


@pytest.mark.parametrize("maxval", [300, 4095])
def test_ppm_says_what_is_white(tmp_path: Path, maxval: int) -> None:
    values = np.random.default_rng(0).integers(0, maxval + 1, (24, 30, 3), dtype=np.uint16)
    (tmp_path / "a.ppm").write_bytes(f"P6 30 24 {maxval}\n".encode() + values.astype(">u2").tobytes())
    assert np.array_equal(read_visible(tmp_path / "a.ppm"), np.floor(values * 255.0 / maxval + 0.5))


def with_significant_bits(path: Path, *bits: int) -> Path:
    """Insert an sBIT chunk behind the header of a PNG file."""
    chunk = b"sBIT" + bytes(bits)
    data, end = path.read_bytes(), 8 + 25
    chunk = struct.pack(">I", len(bits)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:end] + chunk + data[end:])
    return path


def test_png_says_what_is_white(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (24, 30))
    path = with_significant_bits(save(tmp_path / "a.png", values), 12)
    assert np.array_equal(read_infrared(path), np.floor(values * 255 / 4095 + 0.5))
    colours = np.random.default_rng(0).integers(0, 1024, (24, 30, 3))
    path = with_significant_bits(save(tmp_path / "b.png", colours), 10, 10, 10)
    assert np.array_equal(read_visible(path), np.floor(colours * 255 / 1023 + 0.5))


@pytest.mark.parametrize("stored", [lambda v: v << 4, lambda v: v << 4 | v >> 8, lambda v: (v * 65535 + 2047) // 4095])
def test_png_whose_values_fill_16_bits_as_the_standard_says(tmp_path: Path, stored: Callable) -> None:
    values = stored(np.random.default_rng(0).integers(0, 4096, (24, 30)))
    path = with_significant_bits(save(tmp_path / "a.png", values), 12)
    assert np.array_equal(read_infrared(path), np.floor(values * 255 / 65535 + 0.5))
    with pytest.raises(ImageError, match="of 0 to 65535"):  # dark ones are not taken for unfilled ones
        read_infrared(with_significant_bits(save(tmp_path / "b.png", stored(LEVELS.astype(int) % 200)), 12))


@pytest.mark.parametrize("tag", [281, 341])
def test_tiff_says_what_is_white(tmp_path: Path, tag: int) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (24, 30)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={tag: 4095})
    assert np.array_equal(read_infrared(tmp_path / "a.tif"), np.floor(values * 255.0 / 4095 + 0.5))
    Image.fromarray(values).save(tmp_path / "b.tif", tiffinfo={tag: 3999})  # only the largest value of this picture
    with pytest.raises(ImageError, match="of 0 to 65535"):
        read_infrared(tmp_path / "b.tif")


def test_grey_with_alpha(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (24, 30, 2), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 30, 24, 16, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(data))
    expected = np.floor(values[..., 0] / 257 + 0.5)
    assert np.array_equal(read_infrared(tmp_path / "a.png"), expected)
    assert np.array_equal(read_visible(tmp_path / "a.png")[..., 2], expected)


@pytest.mark.parametrize("options", [{"bit_depth": 7}, {"bit_depth": 17}, {"bit_depth": 12, "stretch": True}])
def test_scales_that_say_nothing(options: dict) -> None:
    with pytest.raises(ValueError, match="bit_depth"):
        Scale(**options)
