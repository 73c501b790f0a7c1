"""Parameters and multiply-adds by the rules of thop 0.1.1, with which published tables are made.

thop itself is not used: Ultralytics installs a fork under the same name that counts by other rules, and thop does not
run where `distutils` is gone, from Python 3.12 on.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["thop_counts"]


def _convolution(layer: Any, given: Tensor, made: Tensor) -> int:
    """Count as if every output took the whole kernel: stride ** 2 times too much for transposed convolutions."""
    return made.numel() * (given.shape[1] // layer.groups) * math.prod(layer.kernel_size)


def _normalisation(layer: Any, given: Tensor, made: Tensor) -> int:
    return (4 if layer.affine else 2) * given.numel()


def _adaptive_average(layer: Any, given: Tensor, made: Tensor) -> int:
    return int((math.prod(given.shape[2:]) / math.prod(made.shape[2:]) + 1) * made.numel())


def _softmax(layer: Any, given: Tensor, made: Tensor) -> int:
    count = given.shape[layer.dim]
    return given.numel() // count * (3 * count - 1)


def _upsampling(layer: Any, given: Tensor, made: Tensor) -> int:
    return made.numel() * {"nearest": 1, "bilinear": 11}[layer.mode]


_RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d), _convolution),
    **dict.fromkeys((nn.BatchNorm2d, nn.InstanceNorm2d), _normalisation),
    nn.Linear: lambda layer, given, made: layer.in_features * made.numel(),
    nn.PReLU: lambda layer, given, made: given.numel(),
    nn.AdaptiveAvgPool2d: _adaptive_average,
    nn.Softmax: _softmax,
    nn.Upsample: _upsampling,
}
"""What the networks here hold of thop's layers; its rule for the others that they hold is 0."""


@torch.no_grad()
def thop_counts(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[int, int]:
    """Run a network once and return its multiply-adds and parameters as thop counts them.

    Counted are layers of known types that run. Functional calls and parameters that a network holds itself are not.

    Args:
        network: In evaluation mode, on any device; ``"meta"`` takes no time.
        inputs: Its arguments.
    """
    operations, parameters = 0, {}

    def count(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal operations
        operations += _RULES[type(layer)](layer, given[0], made)
        parameters[layer] = sum(parameter.numel() for parameter in layer.parameters())

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if type(layer) in _RULES]
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return operations, sum(parameters.values())
