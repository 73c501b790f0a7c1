"""How a gradient becomes a step: its norm, the step size over the rounds, and the moments that Adam starts with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "SCHEDULES",
    "Moments",
    "Schedule",
    "give_gradients",
    "new_optimizer",
    "norm_of",
    "restore",
    "take_step",
    "to_unit_norm",
]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda used: 1.0,
    "cosine": lambda used: (1 + math.cos(math.pi * used)) / 2,
    "linear": lambda used: 1 - used,
}
"""Factor on the step size by the used fraction of the rounds, 0..1, for each choice of the setting `schedule`."""


@dataclass(frozen=True)
class Schedule:
    """The step size over some rounds.

    Attributes:
        kind: A name in `SCHEDULES`.
        rounds: Rounds after which the factor is the last one, and stays so.
    """

    kind: str = "constant"
    rounds: int = 1

    def factor(self, rounds: float) -> float:
        """Return the factor on the step size after so many rounds.

        >>> Schedule("linear", 10).factor(2.5), Schedule("linear", 10).factor(12)
        (0.75, 0.0)
        """
        return SCHEDULES[self.kind](min(rounds / self.rounds, 1.0))


@dataclass(frozen=True)
class Moments:
    """What Adam remembers of the gradients of a student, parameter by parameter, on the CPU.

    Attributes:
        steps: Gradients seen.
        first: Moving mean of the gradients, by the parameter's name.
        second: Moving mean of their squares.
    """

    steps: int
    first: dict[str, Tensor]
    second: dict[str, Tensor]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, network: nn.Module) -> "Moments":
        """Copy what an optimiser remembers of a network, of which every parameter has had a gradient."""
        states = {name: optimizer.state[parameter] for name, parameter in network.named_parameters()}
        first, second = (
            {name: state[key].to("cpu", copy=True) for name, state in states.items()}
            for key in ("exp_avg", "exp_avg_sq")
        )
        return cls(int(next(iter(states.values()))["step"]), first, second)

    def give(self, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
        """Let an optimiser remember them, in its parameters' places and memory formats."""
        for name, parameter in network.named_parameters():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(self.steps), device=parameter.device),
                "exp_avg": torch.empty_like(parameter).detach().copy_(self.first[name]),
                "exp_avg_sq": torch.empty_like(parameter).detach().copy_(self.second[name]),
            }

    def scaled(self, factor: float) -> "Moments":
        """Return those of gradients that are `factor` times as large."""
        return Moments(
            self.steps,
            {name: tensor * factor for name, tensor in self.first.items()},
            {name: tensor * factor**2 for name, tensor in self.second.items()},
        )


def new_optimizer(network: nn.Module, learning_rate: float, moments: Moments | None = None) -> torch.optim.Adam:
    """Return Adam for a network, in one kernel, with all that it remembers in place before the first step.

    Args:
        network: On its device.
        learning_rate: Step size; becomes a tensor there, ``param_groups[0]["lr"]``.
        moments: What it remembers; None for nothing.
    """
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), lr=torch.tensor(learning_rate, device=device), fused=True)
    if moments is None:
        nothing = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
        moments = Moments(0, nothing, nothing)
    moments.give(optimizer, network)
    return optimizer


def restore(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Copy what an optimiser's `state_dict` held into its own tensors, which keep their places; the rest becomes 0."""
    for number, state in optimizer.state_dict()["state"].items():
        before = saved["state"].get(number, {})
        for name, tensor in state.items():
            tensor.copy_(before[name]) if name in before else tensor.zero_()


def give_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Give parameters their gradients, in their memory formats, as Adam's one kernel needs them."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        same = gradient.stride() == parameter.stride()
        parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)


def take_step(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let `new_optimizer`'s Adam take a step on a device, in a capture or outside."""
    # It asks for this in a capture, and warns of it elsewhere.
    optimizer.param_groups[0]["capturable"] = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    optimizer.step()


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the joint norm of some tensors."""
    return torch.stack(torch._foreach_norm(list(tensors))).norm()


def to_unit_norm(gradients: Sequence[Tensor]) -> None:
    """Bring the joint norm of some gradients to 1, in place; zero stays zero, and what is not finite stays so."""
    norm = norm_of(gradients)
    torch._foreach_mul_(list(gradients), torch.where(norm.isfinite() & (norm > 0), 1 / norm, norm))
