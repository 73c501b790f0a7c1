"""The student as a CPU runs it is the student: output and gradients, exactly but for rounding."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from student.network import FusionStudent
from student.on_cpu import decode_on_cpu, fuse_on_cpu, quickest
from student.origin import open_student

SHAPES = [(2, 40, 56), (1, 16, 16), (3, 17, 45)]


def drawn_student() -> FusionStudent:
    """A student of which no parameter is at its start, so that none of them could be left out unseen."""
    generator = torch.Generator().manual_seed(0)
    student = FusionStudent(2).double()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return student


def pair(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height)
    ir, vis = torch.rand(2, batch, 1, height, width, generator=generator, dtype=torch.float64)
    return ir, vis


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_are_the_students(shape: tuple[int, int, int], layout: torch.memory_format) -> None:
    student = drawn_student()
    ours = copy.deepcopy(student).to(memory_format=layout)
    ir, vis = pair(*shape)
    weight = torch.rand(ir.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, fused = student(ir=ir, vis=vis), fuse_on_cpu(ours, ir=ir, vis=vis)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-11)
    wanted = torch.autograd.grad((plain * weight).sum(), [*student.parameters()])
    gradients = torch.autograd.grad((fused * weight).sum(), [*ours.parameters()])
    for (name, _), mine, theirs in zip(student.named_parameters(), gradients, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("height", [16, 31, 32, 33, 63, 64, 67, 100, 131])
def test_strips_of_any_height_are_the_whole(batch: int, height: int) -> None:
    """Where no gradient is wanted, the last map is normalised and read strip by strip."""
    student = drawn_student()
    ir, vis = pair(batch, height, 42)
    fused = fuse_on_cpu(student, ir=ir, vis=vis)
    torch.testing.assert_close(fused, student(ir=ir, vis=vis), rtol=0, atol=1e-11)
    content = student.encoder(ir=ir, vis=vis)
    torch.testing.assert_close(decode_on_cpu(student.decoder, content), student.decoder(content), rtol=0, atol=1e-9)


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(1, 96, 128), (2, 43, 61), (1, 16, 16), (1, 17, 90)])
def test_single_precision_and_no_gradients(shape: tuple[int, int, int]) -> None:
    student = open_student(None)[0]
    ir, vis = pair(*shape)
    truth = copy.deepcopy(student).double()(ir=ir, vis=vis)
    for layout in (torch.contiguous_format, torch.channels_last):
        fused = fuse_on_cpu(student.to(memory_format=layout), ir=ir.float(), vis=vis.float())
        torch.testing.assert_close(fused.double(), truth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.9])
def test_little_contrast_costs_no_more_digits_than_in_the_plain_student(level: float) -> None:
    """Behind the first convolution, the mean is 100 times the deviation."""
    student = drawn_student()
    ir, vis = (level + 1e-3 * image for image in pair(2, 48, 40))
    weight = torch.rand(ir.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def output_and_gradients(student: FusionStudent, fuse: Callable[..., Tensor]) -> list[Tensor]:
        kind = next(student.parameters()).dtype
        fused = fuse(ir=ir.to(kind), vis=vis.to(kind))
        gradients = torch.autograd.grad((fused * weight.to(kind)).sum(), [*student.parameters()])
        # Biases before an instance normalisation have no effect; their gradients are rounding alone.
        named = zip(student.named_parameters(), gradients, strict=True)
        return [fused] + [value for (name, _), value in named if not (name.startswith("enc") and name.endswith("bias"))]

    single = copy.deepcopy(student).float()
    last = copy.deepcopy(single).to(memory_format=torch.channels_last)
    truth = output_and_gradients(student, student)
    plain, ours = output_and_gradients(single, single), output_and_gradients(last, partial(fuse_on_cpu, last))

    def error(values: list[Tensor]) -> Tensor:
        return torch.stack([(value - true).norm() / true.norm() for value, true in zip(values, truth, strict=True)])

    assert (error(ours) <= 4 * error(plain) + 1e-6).all()


def test_it_cannot_be_differentiated_twice() -> None:
    student = drawn_student()
    ir, vis = pair(1, 16, 16)
    parameters = [*student.parameters()]
    with pytest.raises(RuntimeError, match="call the student itself"):
        torch.autograd.grad(fuse_on_cpu(student, ir=ir, vis=vis).sum(), parameters, create_graph=True)


def test_a_flat_image_has_finite_gradients() -> None:
    student = drawn_student()
    flat = torch.full((1, 1, 24, 24), 0.5, dtype=torch.float64)
    gradients = torch.autograd.grad(fuse_on_cpu(student, ir=flat, vis=flat).sum(), [*student.parameters()])
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_wrong_shapes_are_refused_as_by_the_student() -> None:
    with pytest.raises(ValueError, match="at least 16 pixels"):
        fuse_on_cpu(FusionStudent(1), ir=torch.zeros(1, 1, 8, 8), vis=torch.zeros(1, 1, 8, 8))


def test_only_a_student_on_a_cpu_is_called_otherwise() -> None:
    other, elsewhere = nn.Identity(), FusionStudent(1).to("meta")
    assert quickest(other) is other
    assert quickest(elsewhere) is elsewhere
    student = drawn_student()
    half = copy.deepcopy(student).half()
    assert quickest(half) is half
    ir, vis = pair(1, 16, 16)
    assert torch.equal(quickest(student)(ir=ir, vis=vis), fuse_on_cpu(student, ir=ir, vis=vis))
