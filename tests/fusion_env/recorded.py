"""What a CUDA graph could not record, noticed where the CPU's stand-in does the same work."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fusion_env.captured import StandInGraph

aten = torch.ops.aten
WAITING = {
    *(aten._local_scalar_dense, aten.nonzero, aten.nonzero_numpy, aten.masked_select, aten.equal, aten.is_nonzero),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.argwhere),
    aten.lift_fresh,  # torch.tensor(numbers): a copy from memory that is not page-locked
}
"""Operations after which the host knows numbers of the device, or before which the device needs numbers of the host."""


class NoHostWork(TorchDispatchMode):
    """Refuses what would make the host wait for the device, or the device for the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = func._overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        scalar = func._overloadpacket is aten.lift_fresh and args[0].ndim == 0  # kernels get it as an argument
        if (func._overloadpacket in WAITING or masks) and not scalar:
            raise RuntimeError(f"{func} cannot be recorded in a CUDA graph")
        return func(*args, **(kwargs or {}))


class StrictGraph(StandInGraph):
    """A stand-in that refuses what a CUDA graph refuses."""

    def replay(self) -> None:
        with NoHostWork():
            super().replay()
