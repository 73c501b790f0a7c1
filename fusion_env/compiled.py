"""Networks whose operations `torch.compile` fuses, with errors that say what to do."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fusion_env.errors import ConfigError
from fusion_env.filters import reflecting_band

__all__ = ["compiled"]


def compiled(network: nn.Module) -> Callable[..., Any]:
    """Return what calls a network compiled, anew for each shape of its inputs.

    Raises:
        ConfigError: At a call: it cannot be compiled here, or there are more shapes than PyTorch keeps.
    """
    torch.compiler.assume_constant_result(reflecting_band)  # else it would be made anew at each call
    fused = torch.compile(network, fullgraph=True, dynamic=False)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return fused(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            first = str(error).strip().split("\n")[0]
            raise ConfigError(f"{type(network).__name__} cannot be compiled ({first}): set compiled=False") from error

    return call
