import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from PIL import Image

from student.errors import ImageError
from student.images import read_infrared, read_luma, read_size, read_visible
from student.sixteen_bit import Scale
from tests.damaged_files import ENCODINGS, GREY, RGB, any_bytes, damaged_images, encoded

READERS = (read_infrared, read_visible, read_luma)


def _save(path: Path, picture: Image.Image | np.ndarray, **options: object) -> Path:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path, **options)
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("bmp", {}), ("tif", {}), ("webp", {"lossless": True})])
def test_lossless_formats_keep_their_levels(tmp_path: Path, suffix: str, options: dict) -> None:
    path = _save(tmp_path / f"a.{suffix}", RGB, **options)
    assert np.array_equal(read_visible(path), RGB)
    assert read_size(path) == (4, 6)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "pgm"])
def test_grey(tmp_path: Path, suffix: str) -> None:
    path = _save(tmp_path / f"a.{suffix}", GREY)
    assert np.array_equal(read_infrared(path), GREY)
    assert np.array_equal(read_luma(path), GREY)
    assert np.array_equal(read_visible(path), np.stack([GREY] * 3, axis=2))


def test_jpeg_decodes_like_opencv(tmp_path: Path) -> None:
    smooth = cv2.resize(RGB, (64, 48))
    path = _save(tmp_path / "a.jpg", smooth, quality=90)
    theirs = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert np.abs(read_visible(path).astype(int) - theirs).max() <= 2


def test_content_decides_not_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.png"
    path.write_bytes(encoded("JPEG", GREY))
    assert read_infrared(path).shape == (4, 6)


def test_luma_of_colour(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.full((2, 3, 3), (200, 100, 50), np.uint8))
    assert np.unique(read_luma(path)).tolist() == [124]  # 59.8 + 58.7 + 5.7 = 124.2
    assert np.unique(read_infrared(path)).tolist() == [124]


def test_infrared_stored_as_colour_keeps_its_levels(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.stack([GREY] * 3, axis=2))
    assert np.array_equal(read_infrared(path), GREY)


def test_alpha_is_dropped_not_composited(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.full_like(GREY, 7)])
    assert np.array_equal(read_visible(_save(tmp_path / "a.png", rgba)), RGB)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(np.zeros_like(GREY))])
    assert np.array_equal(read_infrared(_save(tmp_path / "b.png", grey)), GREY)


@pytest.mark.filterwarnings("error")
def test_transparent_colours_stay(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(24)
    expected = np.asarray(palette.convert("RGB"))
    path = _save(tmp_path / "a.png", palette, transparency=bytes([0, 100, 200]))
    assert np.array_equal(read_visible(path), expected)
    path = _save(tmp_path / "b.png", RGB, transparency=(0, 180, 255))
    assert np.array_equal(read_visible(path), RGB)


def test_one_bit(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.fromarray(GREY > 100))
    assert np.array_equal(read_infrared(path), np.where(GREY > 100, 255, 0))


def test_cmyk(tmp_path: Path) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for suffix in ("tif", "jpg"):
        pixels = read_visible(_save(tmp_path / f"a.{suffix}", red))
        assert np.abs(pixels.reshape(-1, 3).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_is_divided_by_257(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 257, 25700], [32767, 32768, 65406, 65407, 65535]], np.uint16)
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), values)
    expected = np.round(values / 257)
    assert expected.max() == 255
    for read in (read_infrared, read_luma):
        assert np.array_equal(read(path), expected)
    assert np.array_equal(read_visible(path)[..., 1], expected)


def test_16_bit_big_endian_tiff(tmp_path: Path) -> None:
    picture = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535))
    assert read_infrared(_save(tmp_path / "a.tif", picture)).tolist() == [[1, 255]]


def test_16_bit_tiff_in_which_0_is_white_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.tif", np.full((20, 20), 40000, np.uint16), tiffinfo={262: 0})
    with pytest.raises(ImageError, match="0 is white"):
        read_infrared(path)


@pytest.mark.parametrize("kind", ["P5", "P6"])
@pytest.mark.parametrize(("maxval", "dtype"), [(100, "u1"), (1000, ">u2"), (4095, ">u2")])
def test_values_above_the_headers_largest_are_refused(tmp_path: Path, kind: str, maxval: int, dtype: str) -> None:
    values = np.full((20, 20, 3 if kind == "P6" else 1), maxval, dtype)
    for highest in (maxval, maxval + 1):
        values[7, 9] = highest
        path = tmp_path / f"{highest}.pnm"
        path.write_bytes(f"{kind} 20 20 {maxval}\n".encode() + values.tobytes())
    assert read_visible(tmp_path / f"{maxval}.pnm").min() == 255
    with pytest.raises(ImageError, match=f"largest value is {maxval}, and there is {maxval + 1}"):
        read_visible(path)


def test_16_bit_colour_is_at_most_one_level_off(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), dtype=np.uint16)
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), values)
    assert np.abs(read_visible(path) - np.round(values[..., ::-1] / 257)).max() <= 1


def test_raw_thermal_counts_are_refused(tmp_path: Path) -> None:
    counts = np.linspace(20000, 24000, 900).astype(np.uint16).reshape(30, 30)
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), counts)
    for read in READERS:
        with pytest.raises(ImageError, match=r"a\.png: 16-bit .* span only 20000 to 24000 .* convert"):
            read(path)
        assert read(path, Scale(bit_depth=16)).max() == 93


def test_8_bit_picture_in_16_bits_is_no_raw_count(tmp_path: Path) -> None:
    dim = np.tile(np.arange(60, dtype=np.uint16), (30, 1))
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), dim * 257)
    assert np.array_equal(read_infrared(path), dim)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_an_agreed_range_are_refused_by_their_header(tmp_path: Path, dtype: type) -> None:
    path = _save(tmp_path / "a.tif", GREY.astype(dtype))
    for read in (*READERS, read_size):
        with pytest.raises(ImageError, match="no agreed range"):
            read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    # white at the top left corner of the upright picture; where it is stored follows from the EXIF standard: the
    # orientation names the sides of the upright picture at which row 0 and column 0 of the stored one lie
    row_side, column_side = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :16] = 255
    stored = upright.T if orientation > 4 else upright
    if row_side in ("bottom", "right"):
        stored = stored[::-1]
    if column_side in ("bottom", "right"):
        stored = stored[:, ::-1]
    exif = Image.Exif()
    exif[274] = orientation
    path = _save(tmp_path / f"a.{suffix}", np.ascontiguousarray(stored), exif=exif)
    assert read_size(path) == (32, 48)
    pixels = read_infrared(path)
    assert pixels.shape == (32, 48)
    assert np.abs(pixels.astype(int) - upright).max() <= 40
    assert read_visible(path).shape == (32, 48, 3)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_first_picture_of_a_file_with_several(tmp_path: Path, format_: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    path = _save(tmp_path / "a", frames[0], format=format_, save_all=True, append_images=frames[1:])
    assert np.abs(read_infrared(path).astype(int) - 10).max() <= 2
    assert read_size(path) == (8, 8)


def test_damaged_exif_data_do_not_matter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    orientation_as_text = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01abcd"
    for exif in (b"", b"garbage", b"II*\0\xff\xff\xff\xff", orientation_as_text):
        path = _save(tmp_path / "a.jpg", RGB, exif=b"Exif\0\0" + exif)
        assert read_visible(path).shape == RGB.shape
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("read", [*READERS, read_size])
def test_what_is_not_an_image(tmp_path: Path, read: Callable) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no image")
    reasons = {
        "missing.png": "no such file",
        "empty.png": "empty",
        "folder.png": "not a regular file",
        "text.png": "not an image in a known format",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_named_pipe_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="not a regular file"):
            read_luma(path)


def test_symbolic_links(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", RGB)
    (tmp_path / "link").symlink_to(path)
    assert np.array_equal(read_visible(tmp_path / "link"), RGB)
    path.unlink()
    with pytest.raises(ImageError, match=r"link: a symbolic link to .*a\.png, which does not exist"):
        read_visible(tmp_path / "link")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ImageError, match=r"loop: a symbolic link to .*loop, which does not exist"):
        read_size(tmp_path / "loop")


def test_odd_file_names_make_one_printable_line(tmp_path: Path) -> None:
    for name, shown in {
        "a\nb.png": r"a\nb.png",
        "\udcff\x1b.png": r"\udcff\x1b.png",
        "Bäume 図.png": "Bäume 図.png",
    }.items():
        (tmp_path / name).write_text("no image")
        with pytest.raises(ImageError) as caught:
            read_size(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path}/{shown}: not an image")
        assert str(caught.value).encode()
        _save(tmp_path / name, RGB, format="PNG")
        assert np.array_equal(read_visible(tmp_path / name), RGB)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ENCODINGS)
def test_truncated_at_any_byte_is_an_error_or_changes_nothing(tmp_path: Path, name: str) -> None:
    format_, options = ENCODINGS[name]
    data = encoded(format_, **options)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    whole = read_visible(path)
    errors = []
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(read_visible(path), whole), f"{length} of {len(data)} bytes"
        except ImageError as error:
            errors.append(str(error))
    assert len(errors) >= len(data) - 8  # what stands behind the picture may be missing
    assert all(error.startswith(f"{path}: ") and "\n" not in error for error in errors)


def test_a_tiff_that_holds_part_of_its_picture_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded("TIFF"))
    height = data.index(struct.pack("<HHII", 257, 4, 1, 4))
    data[height + 8 : height + 12] = struct.pack("<I", 1004)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="only 6 x 4 of its 6 x 1004 pixels are stored"):
        read_visible(tmp_path / "a.tif")


def test_every_flipped_bit_of_a_png_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    pixels = GREY[:2]
    data = encoded("PNG", pixels)
    path = tmp_path / "a.png"
    refused = 0
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            assert np.array_equal(read_infrared(path), pixels), f"bit {position}"
        except ImageError:
            refused += 1
    assert refused >= 8 * (len(data) - 8)  # the last 8 bytes hold nothing of the picture


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [10_001, 2**31 - 1])
def test_megapixels_are_limited_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png_header(10_000, side) + _chunk(b"IDAT", b""))
    for read in (*READERS, read_size):
        with pytest.raises(ImageError, match="more than 100 megapixels"):
            read(path)


def test_a_side_is_limited_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for width, height in ((65_536, 1), (1, 65_536)):
        path.write_bytes(_png_header(width, height) + _chunk(b"IDAT", b""))
        with pytest.raises(ImageError, match=f"{width} x {height} pixels are .* 65535 in one direction"):
            read_size(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif", "ppm"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1)])
def test_narrow_pictures(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = _save(tmp_path / f"a.{suffix}", np.full((*size, 3), 77, np.uint8))
    assert read_size(path) == size
    assert np.array_equal(read_visible(path), np.full((*size, 3), 77))


@pytest.mark.filterwarnings("error")
def test_nearly_100_megapixels_are_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png_header(10_000, 9_999) + _chunk(b"IDAT", b""))
    assert read_size(path) == (9_999, 10_000)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_no_pixels(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.png"
    for data in (_png_header(width, height) + _chunk(b"IEND", b""), f"P5 {width} {height} 255\n".encode()):
        path.write_bytes(data)
        for read in (*READERS, read_size):
            with pytest.raises(ImageError, match="file that is cut off, damaged, without pixels"):
                read(path)


def test_size_needs_only_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png_header(300, 200) + _chunk(b"IDAT", b"no pixels"))
    assert read_size(path) == (200, 300)
    with pytest.raises(ImageError):
        read_infrared(path)


def _read_all(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for read in (*READERS, read_size):
        with contextlib.suppress(ImageError):
            result = read(path)
            assert min(result if read is read_size else result.shape) > 0


@pytest.mark.filterwarnings("error")
@given(any_bytes())
@example(b"P6 2 2 255\n" + bytes(12))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_an_image_error(tmp_path: Path, data: bytes) -> None:
    _read_all(tmp_path / "a.png", data)


@pytest.mark.filterwarnings("error")
@given(damaged_images())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_images_are_read_or_an_image_error(tmp_path: Path, data: bytes) -> None:
    _read_all(tmp_path / "a.png", data)


@pytest.mark.parametrize("folder", ["mini", "tno", "m3fd", "roadscene"])
def test_real_pictures_decode_like_opencv(reference_dir: Path, folder: str) -> None:
    for side in ("ir", "vi"):
        for path in sorted((reference_dir / "data" / folder / side).iterdir())[:2]:
            theirs = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
            # the JPEG decoders of Pillow and OpenCV may differ in their arithmetic
            tolerance = 0 if path.suffix == ".png" else 4
            assert np.abs(read_visible(path).astype(int) - theirs).max() <= tolerance
            if side == "ir":
                assert np.abs(read_infrared(path).astype(int) - theirs[..., 0]).max() <= tolerance
