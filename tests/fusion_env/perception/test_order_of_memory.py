"""On a GPU nothing between a student and its losses converts maps from one order of memory into the other."""

from collections.abc import Callable

import pytest
import torch

from fusion_env.losses import guidance_loss
from fusion_env.perception import FrozenNetwork
from fusion_env.perception.embedded_features import load_embedded_features
from fusion_env.perception.vgg import untrained_vgg19
from fusion_env.teachers.ldfusion import EmbeddedLDFusion, LDFusionNetwork
from student import FusionStudent
from student.layout import arranged
from tests.conversions import LAST, Conversions, work_as_on_cuda


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    work_as_on_cuda(monkeypatch)


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("load", [load_embedded_features, untrained_vgg19])
def test_from_input_to_loss(load: Callable[[], FrozenNetwork]) -> None:
    student, features = FusionStudent(2).to(memory_format=LAST), load().to(memory_format=LAST)
    ir, vis, target = torch.rand(3, 2, 1, 32, 48)
    with Conversions() as conversions:
        with torch.no_grad():
            wanted = features(target)
        guidance_loss(features(student(ir=ir, vis=vis)), wanted).backward()
    assert not conversions.found


@pytest.mark.parametrize("load", [load_embedded_features, pytest.param(untrained_vgg19, marks=pytest.mark.slow)])
def test_features_do_not_depend_on_the_order(load: Callable[[], FrozenNetwork]) -> None:
    network = load()
    luma = torch.rand(2, 1, 32, 48)
    plain = network(luma)
    for one, other in zip(network.to(memory_format=LAST)(luma), plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert one.is_contiguous(memory_format=LAST)


@pytest.mark.usefixtures("as_on_cuda")
@torch.no_grad()
def test_the_teacher() -> None:
    teacher = EmbeddedLDFusion.from_weights(None)
    ir, vis = torch.rand(2, 2, 1, 40, 56)
    plain = teacher.fuse_luma(ir=ir, vis=vis)
    teacher.to(memory_format=LAST)
    with Conversions() as conversions:
        fused = teacher.fuse_luma(ir=ir, vis=vis)
    assert not conversions.found
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-4)


def test_only_a_gpu_has_weights_rearranged() -> None:
    network = arranged(torch.nn.Conv2d(3, 4, 3), torch.device("cpu"))
    assert network.weight.is_contiguous()
    assert LDFusionNetwork.channels_last
