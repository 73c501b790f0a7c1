"""A small Gaussian policy whose mean and standard deviation both depend on the state."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.distributions import Normal

from agents.random_stream import PREDICTION, WEIGHTS, RandomStream

__all__ = ["GaussianPolicy"]

# The head starts almost constant in the state, so that the first actions are those of `initial_mean` and `initial_std`.
_HEAD_SCALE = 0.01


class GaussianPolicy(BasePolicy):
    """Map a state to independent normal distributions, one for each action dimension.

    Linear and ReLU layers, then one linear head with 2A outputs. A tanh maps half of them to means within
    +-`mean_bound`, a sigmoid the other half to standard deviations within `std_range`. Both bounds are needed: with a
    negative return, an update for an *older* action under the current parameters pushes the mean away from it, the
    harder the further away it already is, and without its bound the mean overflows within some tens of updates.

    The distribution lives in the *unit box*: [-1, 1] stands for the bounds of the action space, so that means and
    standard deviations have one scale whatever the bounds are (for `Box(-1, 1)` the two are the same).

    Args:
        observation_space: A `Box` of any shape; it is flattened.
        action_space: A bounded `Box` of any shape.
        lr_schedule: Learning rate as a function of the remaining progress; its value at 1 starts the optimiser.
        net_arch: Width of each hidden layer.
        initial_mean: Mean at the start, in the unit box and inside +-`mean_bound`: one number, or one per dimension.
        initial_std: Standard deviation at the start, strictly inside `std_range`.
        mean_bound: Largest absolute mean, in the unit box. A bound above 1 lets a deterministic action reach the bounds
            of the action space.
        std_range: Lowest and highest standard deviation, in the unit box.
        optimizer_class: Optimiser of all parameters.
        optimizer_kwargs: Arguments of the optimiser other than the learning rate.
        seed: Fixes the initial weights and what `predict(deterministic=False)` draws; None takes fresh entropy.

    Raises:
        ValueError: A size, a standard deviation or the length of `initial_mean` is out of range.
    """

    centre: Tensor
    half_range: Tensor

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: Sequence[int] = (64, 64),
        initial_mean: float | Sequence[float] = 0.0,
        initial_std: float = 0.5,
        mean_bound: float = 1.2,
        std_range: tuple[float, float] = (0.05, 1.0),
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.SGD,
        optimizer_kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=dict(optimizer_kwargs or {}),
        )
        low, high = (float(bound) for bound in std_range)
        if not 0 < low < initial_std < high:
            raise ValueError(f"need 0 < std_range[0] < initial_std < std_range[1]. Got {initial_std=}, {std_range=}.")
        if any(width < 1 for width in net_arch):
            raise ValueError(f"net_arch must hold positive widths such as (64, 64). Got {net_arch!r}.")
        self.net_arch = tuple(net_arch)
        self.initial_mean = initial_mean
        self.initial_std = initial_std
        self.mean_bound = mean_bound
        self.std_range = (low, high)
        self.stream = RandomStream(seed, PREDICTION)

        self.action_dim = math.prod(action_space.shape)
        for name, bound in (("centre", 0.5), ("half_range", -0.5)):
            values = 0.5 * action_space.high.astype(np.float64) + bound * action_space.low
            self.register_buffer(name, torch.as_tensor(values.reshape(-1), dtype=torch.float32), persistent=False)
        self.features_extractor = self.make_features_extractor()
        self._build(RandomStream(seed, WEIGHTS).generator)
        self.optimizer = optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build(self, generator: torch.Generator) -> None:
        """Create the layers with PyTorch's usual initial distribution, drawn from `generator`."""
        widths = (self.features_extractor.features_dim, *self.net_arch)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [_linear(fan_in, fan_out, generator), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = _linear(widths[-1], 2 * self.action_dim, generator)
        low, high = self.std_range
        share = (self.initial_std - low) / (high - low)
        with torch.no_grad():
            self.head.weight.mul_(_HEAD_SCALE)
            self.head.bias[: self.action_dim] = self._mean_bias()
            self.head.bias[self.action_dim :] = math.log(share / (1 - share))

    def _mean_bias(self) -> Tensor:
        mean = torch.as_tensor(self.initial_mean, dtype=torch.float32).reshape(-1)
        if len(mean) not in (1, self.action_dim):
            raise ValueError(
                f"initial_mean must be one number or {self.action_dim} numbers (one for each action dimension). "
                f"Got {len(mean)}."
            )
        if not bool((mean.abs() < self.mean_bound).all()):
            raise ValueError(
                f"initial_mean must lie inside +-{self.mean_bound} (mean_bound). Got {self.initial_mean!r}."
            )
        return (self.mean_bound * torch.atanh(mean / self.mean_bound)).expand(self.action_dim)

    def distribution(self, obs: PyTorchObs) -> Normal:
        """Compute the action distribution in the unit box.

        Args:
            obs: Observations [B, ...].

        Returns:
            Independent normals with means and standard deviations [B, A].
        """
        features = self.extract_features(obs, self.features_extractor)
        raw_mean, raw_std = self.head(self.body(features)).split(self.action_dim, dim=1)
        low, high = self.std_range
        mean = self.mean_bound * torch.tanh(raw_mean / self.mean_bound)
        return Normal(mean, low + (high - low) * torch.sigmoid(raw_std), validate_args=False)

    @torch.no_grad()
    def sample(self, obs: PyTorchObs, stream: RandomStream) -> Tensor:
        """Draw one unclipped, detached action [B, A] in the unit box for each observation."""
        normal = self.distribution(obs)
        return normal.mean + normal.stddev * stream.normal(normal.mean.shape, normal.mean.device)

    def to_action_space(self, unit_actions: Tensor) -> Tensor:
        """Map actions from the unit box to the bounds of the action space, without clipping."""
        return self.centre + self.half_range * unit_actions

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        unit = self.distribution(observation).mean if deterministic else self.sample(observation, self.stream)
        return self.to_action_space(unit)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "net_arch": self.net_arch,
            "initial_mean": self.initial_mean,
            "initial_std": self.initial_std,
            "mean_bound": self.mean_bound,
            "std_range": self.std_range,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    # skip_init, because the layer's own initialisation would draw from the global random state.
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
    bound = 1 / math.sqrt(fan_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
