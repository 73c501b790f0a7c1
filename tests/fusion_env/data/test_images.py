"""Writing of images, and the readers' errors as the package's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_env.data.images import read_infrared, read_luma, read_size, read_visible, write_png
from fusion_env.errors import DataError
from tests.damaged_files import GREY, RGB


@pytest.mark.parametrize("read", [read_infrared, read_luma, read_size, read_visible])
def test_the_readers_raise_the_packages_error(tmp_path: Path, read: Callable) -> None:
    with pytest.raises(DataError, match=r"a\.png: no such file"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "image",
    [GREY, RGB, torch.from_numpy(GREY), torch.from_numpy(GREY)[None], torch.from_numpy(RGB).permute(2, 0, 1)],
    ids=["grey", "rgb", "tensor", "tensor-1", "tensor-3"],
)
def test_write_round_trip(tmp_path: Path, image: np.ndarray | torch.Tensor) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    write_png(path, image)
    colour = 3 in (image.shape[0], image.shape[-1])
    assert np.array_equal(read_visible(path) if colour else read_luma(path), RGB if colour else GREY)
    unit = image / 255 if isinstance(image, np.ndarray) else image.float() / 255
    write_png(path, unit)
    assert np.array_equal(read_visible(path) if colour else read_luma(path), RGB if colour else GREY)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_write_clamps_and_rounds_half_up(tmp_path: Path, device: str) -> None:
    path = tmp_path / "a.png"
    write_png(path, torch.tensor([[-0.5, 0.5, 1.5, 2.5 / 255]], device=device, requires_grad=True))
    assert read_luma(path).tolist() == [[0, 128, 255, 3]]
    write_png(path, torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16, device=device))
    assert read_luma(path).tolist() == [[255, 0]]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_png(path, GREY)

    def _interrupted(self: Image.Image, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", _interrupted)
    with pytest.raises(OSError, match="disk full"):
        write_png(path, RGB)
    monkeypatch.undo()
    assert np.array_equal(read_luma(path), GREY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 2, 4), np.uint8), "image must be an array"),
        (torch.zeros(1, 3, 2, 2), "image must be an array"),
        (torch.zeros(2, 4, 4), "image must be an array"),
        (np.zeros((0, 2), np.uint8), "image must be an array"),
        (np.zeros((2, 2), np.int64), "Got int64"),
        (torch.full((2, 2), float("nan")), "NaN"),
    ],
)
def test_write_wrong_image(tmp_path: Path, image: np.ndarray | torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_png(tmp_path / "a.png", image)
    assert not list(tmp_path.iterdir())


def test_write_wrong_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png"):
        write_png(tmp_path / "a.jpg", GREY)
