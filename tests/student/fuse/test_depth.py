"""Files keep the visible image's size, colours and depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from student.errors import ImageError
from student.fuse import fuse_files
from student.fuse.writing import write_image


class Visible(nn.Module):
    """A network that returns the visible luma."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return vis


def fused(folder: Path, vis: np.ndarray, out: str = "out.png") -> np.ndarray:
    """Fuse a picture with an infrared one of 8 bits and read the result as it lies in the file."""
    Image.fromarray(np.full(vis.shape[:2], 9, np.uint8)).save(folder / "ir.png")
    cv2.imwrite(str(folder / "vis.png"), vis if vis.ndim == 2 else vis[..., ::-1])
    fuse_files(Visible(), ir_path=folder / "ir.png", vis_path=folder / "vis.png", out_path=folder / out)
    result = cv2.imread(str(folder / out), cv2.IMREAD_UNCHANGED)
    return result if result.ndim == 2 else result[..., ::-1]


@pytest.mark.parametrize("shape", [(18, 22), (18, 22, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("out", ["out.png", "out.tif"])
def test_kept(tmp_path: Path, shape: tuple[int, ...], dtype: type, out: str) -> None:
    vis = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    result = fused(tmp_path, vis, out)
    assert result.dtype == dtype
    assert np.array_equal(result, vis)


def test_jpeg_has_8_bits(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"out\.jpg: JPEG has 8 bits and the visible image 16"):
        write_image(tmp_path / "out.jpg", np.zeros((20, 20), np.float32))
    with pytest.raises(ImageError, match=r"must end in one of \.png"):
        write_image(tmp_path / "out.gif", np.zeros((20, 20), np.uint8))
    assert not list(tmp_path.iterdir())
