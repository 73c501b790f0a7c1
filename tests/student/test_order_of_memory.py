"""Layers of CUDA that keep the order of memory do what PyTorch's do, and nothing between them converts maps."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from student.layout import instance_norm, is_channels_last, keeps_order, reflect, run
from student.network import FusionStudent, SampleLayerNorm, _ParallelNorm
from tests.conversions import Conversions, work_as_on_cuda

LAST = torch.channels_last


def maps(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=dtype).contiguous(memory_format=LAST)


@pytest.mark.parametrize(("margin", "height", "width"), [(1, 2, 3), (1, 5, 6), (3, 4, 4), (3, 5, 9)])
def test_reflection(margin: int, height: int, width: int) -> None:
    x = maps(2, 3, height, width).requires_grad_()
    padded = reflect(x, margin)
    expected = F.pad(x, (margin,) * 4, mode="reflect")
    assert torch.equal(padded, expected)
    assert is_channels_last(padded)
    assert torch.autograd.gradcheck(lambda y: reflect(y, margin), x)


def test_instance_normalisation() -> None:
    x = (3 + maps(2, 3, 5, 7)).contiguous(memory_format=LAST).requires_grad_()
    normalised = instance_norm(x, 1e-5)
    torch.testing.assert_close(normalised, F.instance_norm(x))
    assert is_channels_last(normalised)
    assert torch.autograd.gradcheck(lambda y: instance_norm(y, 1e-5), x)


def test_instance_normalisation_far_from_zero_and_in_half_precision() -> None:
    x = (1000 + maps(2, 3, 64, 64)).float().contiguous(memory_format=LAST)
    torch.testing.assert_close(instance_norm(x, 1e-5), F.instance_norm(x.double()).float(), rtol=0, atol=1e-3)
    half = maps(2, 3, 16, 16).bfloat16()
    assert instance_norm(half, 1e-5).dtype == torch.bfloat16
    torch.testing.assert_close(instance_norm(half, 1e-5).float(), F.instance_norm(half.float()), rtol=0, atol=0.02)


def test_on_a_cpu_layers_do_what_they_do() -> None:
    x, layers = maps(2, 3, 8, 8, dtype=torch.float32), nn.Sequential(nn.ReflectionPad2d(1), nn.InstanceNorm2d(3))
    assert torch.equal(run(layers, x), layers(x))


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    work_as_on_cuda(monkeypatch)


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_is_converted_in_the_student(autocast: bool) -> None:
    student = FusionStudent(2).to(memory_format=LAST)
    ir, vis = torch.rand(2, 2, 1, 40, 48)
    with Conversions() as conversions:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            fused = student(ir=ir, vis=vis).float()
        fused.square().mean().backward()
    assert not conversions.found


def test_pytorchs_layers_would_convert() -> None:
    """The count is no zero of its own: group normalisation is what a GPU is not given."""
    student = FusionStudent(2).to(memory_format=LAST)
    with Conversions() as conversions:
        student(*torch.rand(2, 2, 1, 40, 48)).square().mean().backward()
    assert conversions.found


@pytest.mark.usefixtures("as_on_cuda")
def test_the_student_is_the_same() -> None:
    student = FusionStudent(2).double()
    ir, vis = torch.rand(2, 2, 1, 41, 50, dtype=torch.float64)
    results: list[tuple[Tensor, ...]] = []
    for order in (torch.contiguous_format, LAST):
        student.to(memory_format=order)
        fused = student(ir=ir, vis=vis)
        results.append((fused, *torch.autograd.grad(fused.square().sum(), list(student.parameters()))))
    for plain, last in zip(*results, strict=True):
        torch.testing.assert_close(last, plain, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("as_on_cuda")
def test_small_maps_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = maps(1, 3, 8, 8), maps(2, 3, 8, 8)
    monkeypatch.setattr("student.layout.LARGE", large.numel())
    assert [keeps_order(x) for x in (small, large)] == [False, True]


@pytest.mark.usefixtures("as_on_cuda")
def test_transforms_see_pytorchs_layers() -> None:
    student = FusionStudent(2).to(memory_format=LAST)
    ir, vis = torch.rand(2, 3, 2, 1, 24, 32)
    fused = torch.func.vmap(lambda ir, vis: student(ir=ir, vis=vis))(ir, vis)
    torch.testing.assert_close(fused[1], student(ir=ir[1], vis=vis[1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("flat", [False, True])
def test_the_parallel_norm_keeps_its_order(flat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("student.network._FusedNorm", _ParallelNorm)
    x = (torch.full((2, 3, 4, 5), 0.5) if flat else maps(2, 3, 4, 5)).double().contiguous(memory_format=LAST)
    x.requires_grad_()
    out = SampleLayerNorm(3).double()(x)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert is_channels_last(out)
    assert is_channels_last(gradient)
