"""The caller's numerical state, which results must not depend on: ours while we compute, the caller's again after."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

__all__ = ["own_numerics"]


@contextmanager
def own_numerics() -> Iterator[None]:
    """Compute with the settings of a fresh process, whatever the caller has set; also a decorator.

    Gradients are on, inference mode and autocast off; new tensors are float32 on the CPU; NumPy warns of bad values
    and does not raise.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # only then: the context slows every later call of torch
            stack.enter_context(torch.device("cpu"))
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield
