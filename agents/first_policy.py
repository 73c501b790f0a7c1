"""Let Stable-Baselines3's algorithms begin with a given mean and spread of the actions, whatever they observe."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

__all__ = ["FirstPolicy", "squashed_std"]

# As small as the head of agents.GaussianPolicy: the first actions hardly depend on the observation.
_HEAD_SCALE = 0.01


class FirstPolicy(BaseAlgorithm):
    """Begin where other algorithms begin, so that they can be compared.

    Args:
        *positional: Arguments of the algorithm.
        initial_mean: First mean of the actions where [-1, 1] stands for the bounds: a number, or one per dimension,
            strictly inside; None leaves the algorithm as it is. Off-policy algorithms then follow their first policy,
            too, before `learning_starts`, where they would draw from the whole action space.
        initial_std: First standard deviation in the same unit, above 0, of actions that are clipped at the bounds;
            algorithms that squash theirs get the same spread. None leaves it as it is. TD3 has `action_noise` instead.
        **common: The same by name.

    Raises:
        ValueError: A value is out of range, or the algorithm has no such start.
    """

    def __init__(
        self,
        *positional: Any,
        initial_mean: float | Sequence[float] | None = None,
        initial_std: float | None = None,
        **common: Any,
    ) -> None:
        self.initial_mean, self.initial_std = initial_mean, initial_std
        super().__init__(*positional, **common)

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]  # algorithms have one
        if self.initial_mean is None and self.initial_std is None:
            return
        if getattr(self, "use_sde", False):
            raise ValueError("initial_mean and initial_std need use_sde=False: its noise depends on the observation.")
        if self.initial_std is not None and not 0 < self.initial_std < np.inf:
            raise ValueError(f"initial_std must be a number above 0. Got {self.initial_std!r}.")
        mean = None if self.initial_mean is None else self._mean(self.initial_mean)
        with torch.no_grad():
            place = _place_unbounded if isinstance(self, OnPolicyAlgorithm) else _place_squashed
            place(self, mean, self.initial_std)

    def _mean(self, value: float | Sequence[float]) -> Tensor:
        size = int(np.prod(self.action_space.shape))  # type: ignore[arg-type]  # a Box
        mean = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
        if len(mean) not in (1, size):
            raise ValueError(f"initial_mean must be one number or {size}, one per dimension. Got {len(mean)}.")
        if not bool((mean.abs() < 1).all()):
            raise ValueError(f"initial_mean must lie strictly inside -1 and 1. Got {value!r}.")
        return mean.expand(size)


def _place_unbounded(model: Any, mean: Tensor | None, std: float | None) -> None:
    """Set the head of a normal distribution in the units of the action space, whose samples are clipped."""
    space: spaces.Box = model.action_space
    low, high = (torch.as_tensor(bound.reshape(-1), dtype=torch.float32) for bound in (space.low, space.high))
    if mean is not None:
        _set_head(model.policy.action_net, (high + low) / 2 + (high - low) / 2 * mean)
    if std is not None:
        model.policy.log_std.copy_(torch.log(std * (high - low) / 2))


def _place_squashed(model: Any, mean: Tensor | None, std: float | None) -> None:
    """Set the heads of a policy that ends in a tanh."""
    actor = model.actor
    is_deterministic = isinstance(actor.mu, nn.Sequential)
    if is_deterministic and std is not None:
        raise ValueError("initial_std: this policy is deterministic; set action_noise instead.")
    if mean is not None:
        _set_head(actor.mu[-2] if is_deterministic else actor.mu, torch.atanh(mean))
    if std is not None:
        centre = torch.zeros(actor.log_std.out_features) if mean is None else mean
        _set_head(actor.log_std, torch.log(squashed_std(centre, std)))
    if is_deterministic:
        model.actor_target.load_state_dict(actor.state_dict())


def _set_head(head: nn.Linear, bias: Tensor) -> None:
    head.weight.mul_(_HEAD_SCALE)
    head.bias.copy_(bias)


def squashed_std(mean: Tensor, std: float) -> Tensor:
    """Return the deviation before a tanh that spreads actions like clipping does.

    Args:
        mean: Deterministic action [A], strictly inside -1 and 1.
        std: Deviation of the normal distribution that is clipped.

    Returns:
        [A], so that tanh(atanh(mean) + deviation z) has the standard deviation of clip(mean + std z).
    """
    z = torch.special.ndtri((torch.arange(512) + 0.5) / 512)[:, None]
    wanted = (mean + std * z).clamp(-1, 1).std(dim=0)
    low, high = torch.full_like(mean, 1e-3), torch.full_like(mean, 50.0)
    for _ in range(40):  # the spread grows with the deviation
        middle = (low * high).sqrt()
        too_wide = torch.tanh(torch.atanh(mean) + middle * z).std(dim=0) > wanted
        low, high = torch.where(too_wide, low, middle), torch.where(too_wide, middle, high)
    return (low * high).sqrt()
