"""The registry and what every teacher promises."""

from pathlib import Path

import pytest
import torch

from fusion_env import teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import TeacherError, UnknownNameError
from fusion_env.teachers.laplacian import LaplacianTeacher


def test_names() -> None:
    assert {"embedded", "folder", "laplacian", "ldfusion"} <= set(teachers.names())
    assert list(teachers.names()) == sorted(teachers.names())


def test_misspelt_name() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown teacher 'ldfusoin'. Did you mean 'ldfusion'\?"):
        teachers.load("ldfusoin")


@pytest.mark.usefixtures("own_registry")
def test_own_teacher() -> None:
    @teachers.register("darkest")
    class Darkest(LaplacianTeacher):
        def fuse_luma(self, *, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
            return torch.minimum(ir, vis)

    teacher = teachers.load("darkest")
    assert teacher.name == "darkest"
    assert "darkest" in teachers.names()
    assert teacher(torch.full((1, 1, 4, 4), 0.2), torch.ones(1, 3, 4, 4)).max() == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"'darkest' is already registered, as .*Darkest"):
        teachers.register("darkest")(Darkest)


def test_loaded_for_inference() -> None:
    teacher = teachers.load("laplacian")
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


def test_pairs_are_fused_without_gradients_on_the_teachers_device(device: str) -> None:
    pair = ImagePair("x", torch.zeros(1, 40, 50, dtype=torch.uint8), torch.zeros(3, 40, 50, dtype=torch.uint8))
    fused = teachers.load("laplacian").to(device).fuse_pair(pair)
    assert fused.is_inference()
    assert (fused.device.type, fused.dtype, fused.shape) == (device, torch.float32, (1, 40, 50))


@pytest.mark.usefixtures("own_registry")
def test_fingerprint_depends_on_name_revision_and_tensors() -> None:
    teacher = teachers.load("laplacian")
    first = teacher.fingerprint()
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert teachers.load("laplacian").fingerprint() == first

    @teachers.register("other")
    class Other(LaplacianTeacher):
        pass

    @teachers.register("newer")
    class Newer(LaplacianTeacher):
        revision = 2

    Newer.name = "laplacian"
    teacher.kernel[0, 0, 2, 2] += 1e-3
    assert len({first, Other().fingerprint(), Newer().fingerprint(), teacher.fingerprint()}) == 4


def test_weights_for_a_teacher_that_takes_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='"laplacian" takes no weights'):
        teachers.load("laplacian", tmp_path)


def test_an_incomplete_teacher_cannot_be_built() -> None:
    class Unfinished(teachers.Teacher):
        def fuse_luma(self, *, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
            return ir

    with pytest.raises(TypeError, match="from_weights"):
        Unfinished()


@pytest.mark.usefixtures("own_registry")
def test_what_is_no_teacher_is_not_registered() -> None:
    with pytest.raises(TypeError, match=r"a teacher is registered under a name: .*Got .*LaplacianTeacher"):
        teachers.register(LaplacianTeacher)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"teacher 'mean' must be a subclass of .*Teacher .*from_callable"):
        teachers.register("mean")(lambda ir, vis: ir)  # type: ignore[arg-type, type-var]
    with pytest.raises(
        ValueError, match="LaplacianTeacher is registered as teacher 'laplacian' already: .* as 'again'"
    ):
        teachers.register("again")(LaplacianTeacher)
    assert LaplacianTeacher.name == "laplacian"
    assert {"mean", "again"}.isdisjoint(teachers.names())
    with pytest.raises(UnknownNameError, match=r"unknown teacher \['laplacian'\]"):
        teachers.load(["laplacian"])  # type: ignore[arg-type]


@pytest.mark.usefixtures("own_registry")
def test_a_teacher_that_cannot_be_loaded() -> None:
    @teachers.register("unloadable")
    class Unloadable(teachers.Teacher):
        def fuse_luma(self, *, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
            return ir

    with pytest.raises(NotImplementedError, match=r"Unloadable has no class method from_weights\(weights\)"):
        teachers.load("unloadable")
    Unloadable.from_weights = classmethod(lambda cls, weights: None)  # type: ignore[assignment, method-assign]
    with pytest.raises(TeacherError, match="from_weights of teacher 'unloadable' must return a Teacher. Got NoneType"):
        teachers.load("unloadable")
