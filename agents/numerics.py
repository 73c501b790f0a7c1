"""The caller's settings of PyTorch, which learning must not depend on."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["own_numerics"]


@contextmanager
def own_numerics() -> Iterator[None]:
    """Compute with gradients, without autocast, in float32 on the CPU by default, then put back what was set."""
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # only then: the context slows every later call of torch
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, dtype)
        yield
