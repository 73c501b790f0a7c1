"""The caller's numerical state, which results must not depend on: ours while we compute, the caller's again after."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["own_numerics"]


@contextmanager
def own_numerics() -> Iterator[None]:
    """Compute with the settings of a fresh process, whatever the caller has set; also a decorator.

    Gradients are on, inference mode and autocast off; new tensors are float32 on the CPU, where products are not
    rounded to fewer digits; NumPy warns of bad values and does not raise.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if not torch.backends.mkldnn.enabled:  # its convolutions have other last digits
            stack.enter_context(torch.backends.mkldnn.flags(enabled=True))
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
        for operation in _rounded_on_cpu():
            stack.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
            operation.fp32_precision = "ieee"
        yield


def _rounded_on_cpu() -> list[Any]:
    """List the operations that `torch.set_float32_matmul_precision` and its relatives let round on the CPU."""
    operations = (getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv"))  # PyTorch 2.9 and later
    return [operation for operation in operations if getattr(operation, "fp32_precision", None) in ("bf16", "tf32")]
