"""Videos: as many frames, the same rate, size and colours; unequal ones are refused and nothing is left behind."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from student.errors import ImageError
from student.fuse import fuse_video
from student.fuse.fuser import Fuser
from student.sixteen_bit import Scale

av = pytest.importorskip("av")


class Visible(nn.Module):
    """A network that returns the visible luma."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return vis


class Infrared(nn.Module):
    """A network that returns the infrared image."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return ir


def encoded(path: Path, pictures: list[np.ndarray], times: list[int], base: Fraction) -> Path:
    """Write pictures without loss, each at its time."""
    grey16 = pictures[0].dtype == np.uint16
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "gray16le" if grey16 else "bgr0", base
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="gray16le" if grey16 else "rgb24")
            frame.pts, frame.time_base = time, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def drawn(frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)] * frames


def film(
    path: Path,
    frames: int = 5,
    rate: int | str = 10,
    size: tuple[int, int] = (48, 64),
    shade: int = 0,
    shape: Fraction | None = None,
) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(rate), options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if shape:
            stream.codec_context.sample_aspect_ratio = shape
        for number in range(frames):
            picture = np.full((*size, 3), (200, 20 * number + shade, 60), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def read(path: Path) -> tuple[list[np.ndarray], Fraction]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)], file.streams.video[0].average_rate


def test_two_files(tmp_path: Path) -> None:
    paths = {"ir_path": film(tmp_path / "ir.mp4", shade=50), "vis_path": film(tmp_path / "vis.mp4")}
    done = fuse_video(Fuser(Visible(), device="cpu"), **paths, out_path=tmp_path / "out.mp4")
    (fused, rate), (vis, vis_rate) = read(tmp_path / "out.mp4"), read(paths["vis_path"])
    assert done == (5, 5 * 48 * 64)
    assert (len(fused), rate, fused[0].shape) == (5, vis_rate, vis[0].shape)
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(fused, vis, strict=True)) <= 6


@pytest.mark.parametrize("side", ["ir-left", "ir-right"])
def test_side_by_side(tmp_path: Path, side: str) -> None:
    both = film(tmp_path / "both.mp4", size=(48, 128))
    paths = {"ir_path": both, "vis_path": both, "out_path": tmp_path / "out.mkv"}
    fuse_video(Fuser(Visible(), device="cpu"), **paths, side_by_side=side)
    fused, _ = read(tmp_path / "out.mkv")
    assert (len(fused), fused[0].shape) == (5, (48, 64, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 3}, r"ir\.mp4 ends after 3 frames and .*vis\.mp4 goes on"),
        ({"rate": 12}, r"ir\.mp4 has 12.000 frames a second and .*vis\.mp4 10.000"),
        ({"size": (48, 80)}, r"ir\.mp4 and .*vis\.mp4, frame 1: ir is 48 x 80 and vis 48 x 64"),
    ],
)
def test_unequal(tmp_path: Path, settings: dict, message: str) -> None:
    paths = {"ir_path": film(tmp_path / "ir.mp4", **settings), "vis_path": film(tmp_path / "vis.mp4")}
    with pytest.raises(ImageError, match=message):
        fuse_video(Fuser(Visible(), device="cpu"), **paths, out_path=tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ir.mp4", "vis.mp4"]


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "ir.mp4").write_bytes(b"no video")
    with pytest.raises(ImageError, match=r"not read or written as a video"):
        fuse_video(
            Fuser(Visible(), device="cpu"),
            ir_path=tmp_path / "ir.mp4",
            vis_path=film(tmp_path / "vis.mp4"),
            out_path=tmp_path / "out.mp4",
        )


@pytest.mark.parametrize("ending", ["mkv", "mp4", "avi"])
def test_times_are_those_of_the_visible_frames(tmp_path: Path, ending: str) -> None:
    times = [0, 70, 200, 230, 500, 600] if ending != "avi" else [0, 100, 200, 300, 400, 500]  # AVI has one rate only
    vis = encoded(tmp_path / "vis.mkv", drawn(6), times, Fraction(1, 1000))
    out = tmp_path / f"out.{ending}"
    fuse_video(Fuser(Visible(), device="cpu"), ir_path=vis, vis_path=vis, out_path=out)
    with av.open(str(out)) as file:
        found = [float(frame.time) for frame in file.decode(video=0)]
    np.testing.assert_allclose(np.array(found) - found[0], np.array(times) / 1000, atol=1e-3)


def test_avi_takes_no_uneven_times(tmp_path: Path) -> None:
    source = encoded(tmp_path / "x.mkv", drawn(6), [0, 70, 200, 230, 500, 600], Fraction(1, 1000))
    with pytest.raises(ImageError, match=r"frame 4 of .*x\.mkv .* AVI has one rate only: .* \.mp4, \.mkv or \.mov"):
        fuse_video(Fuser(Visible(), device="cpu"), ir_path=source, vis_path=source, out_path=tmp_path / "out.avi")
    assert not (tmp_path / "out.avi").exists()


def test_one_rate_written_in_two_ways(tmp_path: Path) -> None:
    pair = {
        "ir_path": film(tmp_path / "ir.mp4", rate="2997/100"),
        "vis_path": film(tmp_path / "vis.mp4", rate="30000/1001"),
    }
    assert fuse_video(Fuser(Visible(), device="cpu"), **pair, out_path=tmp_path / "out.mp4")[0] == 5
    other = film(tmp_path / "ir.mp4", rate="30")
    with pytest.raises(ImageError, match=r"30\.000 frames a second and .* 29\.970"):
        fuse_video(
            Fuser(Visible(), device="cpu"), ir_path=other, vis_path=pair["vis_path"], out_path=tmp_path / "out.mp4"
        )


def test_colours_are_tagged_and_pixels_keep_their_shape(tmp_path: Path) -> None:
    vis = film(tmp_path / "vis.mp4", shape=Fraction(16, 15))
    fuse_video(Fuser(Visible(), device="cpu"), ir_path=vis, vis_path=vis, out_path=tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(16, 15)
        assert next(file.decode(video=0)).colorspace == 5  # BT.601, whatever the size


def test_a_turned_video_is_fused_upright(tmp_path: Path) -> None:
    vis = film(tmp_path / "vis.mp4", size=(48, 64))
    content = bytearray(vis.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # where the matrix starts: a quarter turn clockwise
    content[at : at + 36] = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    vis.write_bytes(content)
    done = fuse_video(Fuser(Visible(), device="cpu"), ir_path=vis, vis_path=vis, out_path=tmp_path / "out.mp4")
    assert done == (5, 5 * 48 * 64)
    assert read(tmp_path / "out.mp4")[0][0].shape == (64, 48, 3)


def test_sixteen_bit_infrared(tmp_path: Path) -> None:
    levels = drawn(2)[0][..., 0]
    ir = encoded(tmp_path / "ir.mkv", [levels.astype(np.uint16) * 15 + 100] * 2, [0, 100], Fraction(1, 1000))
    vis = encoded(tmp_path / "vis.mkv", [np.full((48, 64, 3), 9, np.uint8)] * 2, [0, 100], Fraction(1, 1000))
    paths = {"ir_path": ir, "vis_path": vis, "out_path": tmp_path / "out.mkv"}
    with pytest.raises(ImageError, match=r"ir\.mkv: 16-bit values span only"):
        fuse_video(Fuser(Infrared(), device="cpu"), **paths)
    fuse_video(Fuser(Infrared(), device="cpu"), **paths, scale=Scale(bit_depth=12))
    found = read(paths["out_path"])[0][0].mean(axis=2)
    assert np.abs(found - (levels * 15.0 + 100) / 4095 * 255).max() < 8
    fuse_video(Fuser(Visible(), device="cpu"), **(paths | {"vis_path": ir}), scale=Scale(bit_depth=12))  # grey


def test_faults_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "ir.mp4").write_bytes(b"no video")
    vis = film(tmp_path / "vis.mp4")
    with pytest.raises(ImageError, match=r"^\S*ir\.mp4: not read or written as a video, Invalid data"):
        fuse_video(
            Fuser(Visible(), device="cpu"), ir_path=tmp_path / "ir.mp4", vis_path=vis, out_path=tmp_path / "out.mp4"
        )
    content = film(tmp_path / "cut.mkv").read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"cut\.mkv has no frames"):
        fuse_video(Fuser(Visible(), device="cpu"), ir_path=cut, vis_path=cut, out_path=tmp_path / "out.mp4")
