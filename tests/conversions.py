"""What is converted between orders of memory, counted on a CPU that works as a GPU would."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from student.network import _ParallelNorm

LAST = torch.channels_last
aten = torch.ops.aten


def work_as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let layers do on a CPU what they do to large maps on CUDA."""
    monkeypatch.setattr("student.layout._on_a_gpu", lambda x: True)
    monkeypatch.setattr("student.layout.LARGE", 1)
    monkeypatch.setattr("student.network._FusedNorm", _ParallelNorm)


class Conversions(TorchDispatchMode):
    """Lists convolutions with maps that are not channels-last, and copies from one order into the other."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func._overloadpacket
        if name in (aten.convolution, aten.convolution_backward):
            for x in args[:3]:
                if isinstance(x, Tensor) and x.ndim == 4 and not x.is_contiguous(memory_format=LAST):
                    self.found.append(f"{func} of {tuple(x.shape)} {x.stride()}")
        elif name in (aten.clone, aten._to_copy, aten.contiguous, aten.copy_) and self._converts(args, result):
            self.found.append(f"{func} of {tuple(result.shape)}")
        return result

    @staticmethod
    def _converts(args: tuple, result: Tensor) -> bool:
        source = args[1] if len(args) > 1 and isinstance(args[1], Tensor) else args[0]
        if source.ndim != 4 or source.shape != result.shape or 1 in source.shape[1:]:
            return False
        return (source.stride(1) == 1) != (result.stride(1) == 1)
