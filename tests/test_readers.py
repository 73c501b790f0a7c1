"""All that reads images takes the same files and refuses the same ones, each with one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from experiments.evaluation.folders import find_images
from fusion_env.data import ImagePair, PairedFolder
from fusion_env.errors import DataError
from fusion_env.metrics.__main__ import main as print_metrics
from fusion_env.teachers import FolderTeacher
from student.fuse import fuse_files
from student.images import read_luma
from tests.damaged_files import any_bytes, damaged_images

SIDES = ("ir", "vi", "fused")


class Infrared(nn.Module):
    """A student that returns the infrared image."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return ir


def train(folder: Path) -> None:
    PairedFolder(folder).load(0)


def verify(folder: Path) -> None:
    PairedFolder(folder).verify()


def teach(folder: Path) -> None:
    size = read_luma(folder / "ir" / "a.png").shape
    pair = ImagePair("a", torch.zeros(1, *size, dtype=torch.uint8), torch.zeros(3, *size, dtype=torch.uint8))
    FolderTeacher(folder / "fused").fuse_pair(pair)


def fuse(folder: Path) -> None:
    files = {"ir_path": folder / "ir" / "a.png", "vis_path": folder / "vi" / "a.png"}
    fuse_files(Infrared(), **files, out_path=folder / "out" / "a.png")


def compare(folder: Path) -> None:
    find_images({"x": folder / "fused"}, ir=folder / "ir", vis=folder / "vi")


USERS = (train, verify, teach, fuse, compare)


def refusals(folder: Path, data: bytes) -> dict[str, str]:
    """Let everybody read a pair and a fused image of the same bytes; return what they say against it."""
    said = {}
    for side in SIDES:
        (folder / side).mkdir(exist_ok=True)
        (folder / side / "a.png").write_bytes(data)
    for use in USERS:
        try:
            use(folder)
        except ValueError as error:
            said[use.__name__] = str(error)
    return said


@pytest.mark.filterwarnings("error")
@given(st.one_of(damaged_images(), any_bytes()))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_refused_by_everybody_or_by_nobody(tmp_path: Path, data: bytes) -> None:
    said = refusals(tmp_path, data)
    assert len(said) in (0, len(USERS)), said
    assert all("a.png" in text for text in said.values())
    assert all("\n" not in text for user, text in said.items() if user != "compare")


def test_reported_files(tmp_path: Path, reference_dir: Path) -> None:
    """Files that once ended a program with an exception of the decoder."""
    damaged = reference_dir / "faults" / "fuse_uncaught"
    if not damaged.is_dir():
        pytest.skip(f"no damaged files in {damaged}")
    for file in damaged.iterdir():
        assert len(refusals(tmp_path, file.read_bytes())) in (0, len(USERS)), file.name


@pytest.mark.parametrize("kind", ["GIF", "PPM", "TIFF", "WEBP", "BMP", "JPEG"])
def test_the_content_decides_the_format(tmp_path: Path, kind: str) -> None:
    Image.fromarray(np.full((48, 60), 77, np.uint8)).save(tmp_path / "picture", kind)
    assert refusals(tmp_path, (tmp_path / "picture").read_bytes()) == {}


@pytest.mark.parametrize("values", [lambda v: v, lambda v: 7300 + v, lambda v: v * 4, lambda v: v * 16])
def test_sixteen_bit_values_of_unknown_range(tmp_path: Path, values: Callable[[np.ndarray], np.ndarray]) -> None:
    counts = values(np.random.default_rng(0).integers(0, 256, (48, 60))).astype(np.uint16)
    Image.fromarray(counts).save(tmp_path / "picture", "PNG")
    said = refusals(tmp_path, (tmp_path / "picture").read_bytes())
    assert set(said) == {use.__name__ for use in USERS}
    assert all(f"span only {counts.min()} to {counts.max()}" in text for text in said.values())


def test_what_else_lies_in_a_folder(tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 60), 77, np.uint8)).save(tmp_path / "picture", "PNG")
    for side in SIDES:
        (tmp_path / side / "old.png").mkdir(parents=True)
        for name in ("._a.png", ".hidden.png", "a.txt", "a.json", "Thumbs.db"):
            (tmp_path / side / name).write_bytes(b"no image")
    assert refusals(tmp_path, (tmp_path / "picture").read_bytes()) == {}


@pytest.mark.parametrize(
    ("ir", "vis", "fused"), [("IR_1", "VIS_1", "1"), ("1-ir", "1-visible", "VIS_1"), ("ir1", "vi1", "IR_1")]
)
def test_marks_pair_everywhere(tmp_path: Path, ir: str, vis: str, fused: str) -> None:
    for side, name in zip(SIDES, (ir, vis, fused), strict=True):
        (tmp_path / side).mkdir()
        Image.fromarray(np.full((48, 60), 77, np.uint8)).save(tmp_path / side / f"{name}.png")
    source = PairedFolder(tmp_path)
    assert source.names == ("1",)
    teacher = FolderTeacher(tmp_path / "fused")
    teacher.check(source.names)
    assert teacher.fuse_pair(source.load(0)).shape == (1, 48, 60)
    compare(tmp_path)


def test_the_command_of_the_metrics_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\nb.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 60)).astype(np.uint16)).save(path)
    assert print_metrics([str(path)] * 3) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert print_metrics([*[str(path)] * 3, "--metrics", "en", "--bit-depth", "8"]) == 0


def test_data_errors_are_the_packages_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    for use in (train, compare):
        with pytest.raises(DataError):
            use(tmp_path)
