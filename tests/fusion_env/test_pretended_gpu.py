"""On a GPU that PyTorch only pretends to have, which computes shapes and no numbers, what is captured needs no host.

A process of its own, because matrices of filters that are made there are kept.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fusion_env import metrics
from fusion_env.degradation import DegradationNoise, DegradationTensors, degrade_by_tensors
from fusion_env.perception import FrozenNetwork, load_features, load_quality
from fusion_env.scoring import image_values
from fusion_env.stored_images import StoredImages
from fusion_env.teachers.ldfusion import EmbeddedLDFusion
from student import FusionStudent, layout

LAST = torch.channels_last


class Watch(TorchDispatchMode):
    """Lists what comes from the host, and convolutions that are not channels-last."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before, after = _devices((args, kwargs)), _devices(result)
        if before and after - before:
            self.found.append(f"{func}: from {before} to {after}")
        if func._overloadpacket is torch.ops.aten.convolution and not args[0].is_contiguous(memory_format=LAST):
            self.found.append(f"{func} of {tuple(args[0].shape)} {args[0].stride()}")
        return result


def _devices(values: object) -> set[str]:
    return {value.device.type for value in tree_leaves(values) if isinstance(value, Tensor)}


def pretend(network: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Give a network weights on the GPU that is not there, arranged as there."""
    for module in network.modules():
        for kind in (module._parameters, module._buffers):
            for name, value in kind.items():
                if value is not None:
                    kept = value.detach().contiguous(memory_format=LAST) if value.ndim == 4 else value
                    with mode:
                        place = torch.empty_strided(kept.shape, kept.stride(), dtype=kept.dtype, device="cuda")
                    kind[name] = nn.Parameter(place, requires_grad=False) if kind is module._parameters else place
    return network


def watched(work: Callable[[], object], mode: FakeTensorMode) -> list[str]:
    """Do some work twice, as constants are brought once, and list what is found at the second time."""
    for _ in range(2):
        with Watch() as watch, mode, torch.no_grad():
            work()
    return watch.found


def main() -> None:
    """Fail where there is something that no graph could record."""
    layout.LARGE = 1
    mode = FakeTensorMode()
    student, cuda = pretend(FusionStudent(2), mode), torch.device("cuda")
    names = (*(name for name in metrics.names() if name != "clip_iqa"), "iqa", "mae", "ssim_teacher", "spread")
    with mode:
        images = StoredImages.empty(4, (176, 240), chroma=True, device=cuda)
        index = torch.zeros(2, dtype=torch.int64, device=cuda)
        luma = torch.rand(2, 1, 64, 96, device=cuda)

    def score(quality: FrozenNetwork) -> None:
        values = image_values(
            names, images, index, lambda ir, vis, _: student(ir=ir, vis=vis), quality=quality, colour=True
        )
        assert all(value.is_cuda for value in values.values())

    for iqa in ("embedded", "clip-untrained"):
        quality = pretend(load_quality(iqa, None, None), mode)
        found = [line for line in watched(partial(score, quality), mode) if "convolution" not in line]
        assert not found, found
    for perception in ("embedded", "vgg19-untrained"):
        features = pretend(load_features(perception, None, "before_relu"), mode)
        found = watched(lambda features=features: features(student(ir=luma, vis=luma)), mode)
        assert not found, found
    with mode:
        strengths = DegradationTensors(luma)
        noise = DegradationNoise(torch.rand(2, device=cuda), torch.rand(2, device=cuda), torch.randn_like(luma))
    found = watched(lambda: degrade_by_tensors(luma, strengths, noise), mode)
    assert not found, found
    teacher = pretend(EmbeddedLDFusion.from_weights(None), mode)
    found = watched(lambda: teacher.fuse_luma(ir=luma, vis=luma), mode)
    assert not found, found


@pytest.mark.slow
def test_what_is_captured_needs_no_host_and_converts_nothing() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
