"""Exported files compute what the student does, at any size and batch, and load as teachers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_env import teachers
from student.export import OPSET, export_onnx, export_program
from student.fuse.colour import luma_of
from student.network import FusionStudent
from student.origin import open_student

SIZES = ((1, 96, 128), (2, 61, 83), (1, 16, 16))


def images(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height)
    ir, vis = (torch.rand(batch, channels, height, width, generator=generator) for channels in (1, 3))
    return ir, vis


@pytest.fixture(scope="module")
def student() -> FusionStudent:
    return open_student(None)[0]


@pytest.fixture(scope="module")
def onnx_files(student: FusionStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(student, folder / "full.onnx")
    export_onnx(student, folder / "half.onnx", half=True)
    return folder


@pytest.mark.slow
class TestOnnx:
    @pytest.mark.parametrize(("name", "atol"), [("full", 1e-4), ("half", 1 / 255)])
    @pytest.mark.parametrize("size", SIZES)
    @torch.inference_mode()
    def test_parity(
        self, student: FusionStudent, onnx_files: Path, name: str, atol: float, size: tuple[int, int, int]
    ) -> None:
        import onnxruntime

        session = onnxruntime.InferenceSession(onnx_files / f"{name}.onnx", providers=["CPUExecutionProvider"])
        ir, vis = images(*size)
        (fused,) = session.run(["fused"], {"ir": ir.numpy(), "vis": vis.numpy()})
        assert fused.dtype == np.float32
        expected = student(ir=ir, vis=luma_of(vis))
        torch.testing.assert_close(torch.from_numpy(fused), expected, rtol=0, atol=atol)

    @torch.inference_mode()
    def test_half_of_a_dark_picture_with_a_lamp(self, student: FusionStudent, onnx_files: Path) -> None:
        import onnxruntime

        ir, vis = (0.05 + 0.02 * image for image in images(1, 64, 80))
        vis[..., 20:23, 30:33] = 0.9
        session = onnxruntime.InferenceSession(onnx_files / "half.onnx", providers=["CPUExecutionProvider"])
        (fused,) = session.run(["fused"], {"ir": ir.numpy(), "vis": vis.numpy()})
        expected = student(ir=ir, vis=luma_of(vis))
        torch.testing.assert_close(torch.from_numpy(fused), expected, rtol=0, atol=1 / 255)

    def test_quiet(self, student: FusionStudent, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        export_onnx(student, tmp_path / "quiet.onnx")
        assert caplog.records == []

    def test_one_file_of_the_stated_opset(self, onnx_files: Path) -> None:
        import onnx

        assert sorted(path.name for path in onnx_files.iterdir()) == ["full.onnx", "half.onnx"]
        model = onnx.load(onnx_files / "full.onnx")
        assert {item.domain: item.version for item in model.opset_import}[""] == OPSET
        sizes = [path.stat().st_size for path in (onnx_files / "half.onnx", onnx_files / "full.onnx")]
        assert sizes[0] < 0.7 * sizes[1]

    @torch.inference_mode()
    def test_as_a_teacher(self, student: FusionStudent, onnx_files: Path) -> None:
        ir, vis = images(1, 64, 80)
        teacher = teachers.load("exported", onnx_files / "full.onnx")
        torch.testing.assert_close(teacher(ir, vis), student(ir=ir, vis=luma_of(vis)), rtol=0, atol=1e-4)


@pytest.mark.slow
@torch.inference_mode()
def test_program(student: FusionStudent, tmp_path: Path) -> None:
    with torch.inference_mode(False):  # as the command has it: what depends on gradients must not fix the batch
        export_program(student, tmp_path / "student.pt2")
    teacher = teachers.load("exported", tmp_path / "student.pt2")
    for size in SIZES:
        ir, vis = images(*size)
        torch.testing.assert_close(teacher.network(ir, vis), student(ir=ir, vis=luma_of(vis)), rtol=0, atol=1e-4)
    assert teacher.multiple == 1
