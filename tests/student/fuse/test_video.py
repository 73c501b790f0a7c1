"""Videos: as many frames, the same rate, size and colours; unequal ones are refused and nothing is left behind."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from student.errors import ImageError
from student.fuse import fuse_video
from student.fuse.fuser import Fuser

av = pytest.importorskip("av")


class Visible(nn.Module):
    """A network that returns the visible luma."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return vis


def film(path: Path, frames: int = 5, rate: int = 10, size: tuple[int, int] = (48, 64), shade: int = 0) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(rate), options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
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
