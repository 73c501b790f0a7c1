"""Results of another method as files: found by name, checked, never guessed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_env import teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import DataError, MissingRequirementsError
from fusion_env.teachers import FolderTeacher


def pair(name: str, height: int = 20, width: int = 30) -> ImagePair:
    shape = (height, width)
    return ImagePair(name, torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(3, *shape, dtype=torch.uint8))


@pytest.fixture
def levels(tmp_path: Path) -> np.ndarray:
    """Two fused images in ``tmp_path``: a.png grey, b.bmp the same in three channels."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(tmp_path / "b.bmp")
    (tmp_path / "notes.txt").write_text("not an image")
    return pixels


@pytest.mark.parametrize("name", ["a", "b"])
def test_pair(tmp_path: Path, levels: np.ndarray, name: str) -> None:
    fused = teachers.load("folder", tmp_path).fuse_pair(pair(name))
    assert fused.dtype is torch.float32
    assert np.array_equal((fused * 255).round().byte().numpy(), levels[None])


@pytest.mark.usefixtures("levels")
class TestErrors:
    def test_missing_results_are_all_counted(self, tmp_path: Path) -> None:
        teacher = FolderTeacher(tmp_path)
        teacher.check(["a", "b"])
        with pytest.raises(MissingRequirementsError, match=r"no fused image for 2 of 3 pairs: c, d\."):
            teacher.check(["c", "a", "d"])
        with pytest.raises(MissingRequirementsError, match=r"for 25 of 25 pairs: n0, .*, n19 and 5 more\."):
            teacher.check([f"n{i}" for i in range(25)])
        with pytest.raises(MissingRequirementsError, match="1 of 1 pairs: c"):
            teacher.fuse_pair(pair("c"))

    def test_other_size(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a.png is \[20, 30\] .* its pair is \[20, 31\]"):
            FolderTeacher(tmp_path).fuse_pair(pair("a", 20, 31))

    def test_tensors(self, tmp_path: Path) -> None:
        teacher = FolderTeacher(tmp_path)
        assert teacher.whole_image_only
        with pytest.raises(TypeError, match=r"cannot fuse tensors.*fuse_pair"):
            teacher(torch.zeros(1, 1, 20, 30), torch.zeros(1, 3, 20, 30))

    def test_one_name_twice(self, tmp_path: Path) -> None:
        Image.new("L", (30, 20)).save(tmp_path / "a.bmp")
        with pytest.raises(DataError, match=r"twice"):
            FolderTeacher(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    for given, message in ((None, "no folder is given"), (tmp_path / "x", "not a folder"), (tmp_path, "no images")):
        with pytest.raises(MissingRequirementsError, match=message):
            teachers.load("folder", given)


@pytest.mark.usefixtures("levels")
def test_what_is_stored_with_results(tmp_path: Path) -> None:
    teacher = FolderTeacher(tmp_path)
    (checksum,) = teacher.checksums.values()
    assert (list(teacher.checksums), len(checksum)) == ([tmp_path.name], 64)
    assert teacher.describe() == f"folder ({tmp_path.name} sha256 {checksum[:12]}, {checksum[:16]})"


def test_fingerprint_follows_the_content(tmp_path: Path, levels: np.ndarray) -> None:
    first = FolderTeacher(tmp_path).fingerprint()
    assert FolderTeacher(tmp_path).fingerprint() == first
    levels[0, 0] ^= 1
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert FolderTeacher(tmp_path).fingerprint() != first
