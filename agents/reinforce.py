"""REINFORCE with a sliding reward window (Eq. 7 of arXiv 2509.02424), as a Stable-Baselines3 algorithm."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.gaussian_policy import GaussianPolicy
from agents.stepwise import StepAlgorithm

__all__ = ["Reinforce", "ReturnStatistics", "Window"]

# Adam makes steps of one size out of gradients of any size down to `eps`. Advantages are about 1 when normalised, so
# this eps leaves them alone, but rounding noise under a constant reward no longer moves the policy.
_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "adam": (torch.optim.Adam, {"eps": 1e-3}),
}
_FORMAT_VERSION = 1


@dataclass
class Window:
    """An action that waits for its return: the rewards r_t .. r_{t+H-1} that follow it.

    Args:
        obs: Observation s_t, as the policy saw it.
        action: Unclipped sample a_t [A] in the policy's unit box.
        rewards: Rewards so far, the action's own first.
        closed: The episode ended, no further reward will come.
    """

    obs: np.ndarray
    action: np.ndarray
    rewards: list[float] = field(default_factory=list)
    closed: bool = False

    def is_ready(self, horizon: int) -> bool:
        """Tell whether the return is known."""
        return self.closed or len(self.rewards) >= horizon


@dataclass
class ReturnStatistics:
    """Turn returns into advantages by running averages: an optional baseline and an optional scale.

    Both are exponential averages with bias correction. The baseline is the mean *reward*, multiplied by the number of
    rewards in a window, because windows that the end of an episode cuts hold fewer. A return never enters the baseline
    that it is compared with; it does enter its own scale, which bounds the advantage by about 1/sqrt(1 - decay).

    Args:
        baseline: Subtract the running mean.
        normalize: Divide by the running root mean square.
        decay: Share of the past that each update keeps, in [0, 1).
    """

    baseline: bool = False
    normalize: bool = False
    decay: float = 0.9
    weight: float = 0.0
    mean_reward: float = 0.0
    mean_square: float = 0.0

    def advantages(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Compute the advantages [B] of returns [B] that are sums of `lengths` [B] rewards, and update the averages."""
        past, share = self.decay * self.weight, 1 - self.decay
        reward = float(np.mean(returns / lengths))
        advantages = returns
        if self.baseline:
            # The first batch has no past to be compared with but itself.
            advantages = returns - lengths * (self.mean_reward if self.weight else reward)
        self.weight = past + share
        keep, take = past / self.weight, share / self.weight
        self.mean_reward = keep * self.mean_reward + take * reward
        self.mean_square = keep * self.mean_square + take * float(np.mean(advantages**2))
        if self.normalize:
            # Far above rounding noise, so that a constant reward has no advantage rather than an amplified one.
            noise_floor = 1e-8 * (1 + float(np.abs(returns).max()))
            advantages = advantages / (np.sqrt(self.mean_square) + noise_floor)
        return advantages


class Reinforce(StepAlgorithm):
    """Monte-Carlo policy gradient that updates once for every environment step.

    For each step t the return is G_t = r_t + ... + r_{t+H-1}: a window of `horizon` rewards, neither discounted nor
    bootstrapped. The update for a_t happens as soon as r_{t+H-1} is known, with log pi(a_t | s_t) under the *current*
    parameters; when an episode ends, its waiting windows are cut there and updated, one by one. N steps of whole
    episodes therefore give N updates. The loss is -G_t log pi(a_t | s_t) of a *detached* sample (score function).
    The gradient of the mean is exactly zero if the sample is a differentiable function of the parameters, as the
    density at mean + std * noise does not depend on the mean: the reparameterisation trick does not apply here.

    With several environments every one has its own windows. The windows that become ready in one step make one update
    that is averaged over the number of environments, so that every action weighs the same.

    The defaults are the paper's: plain stochastic gradient ascent. `baseline`, `normalize_returns` and `max_grad_norm`
    make it usable in runs of 25 to 100 steps (preset `reinforce` of :func:`agents.make`). With these three on, a step
    is nearly always as long as allowed and does not die out: give runs of many hundred steps a lower `learning_rate`.

    Stopping in the middle of an episode keeps its waiting windows for the next call of `learn` with
    `reset_num_timesteps=False`. A call that resets the environment drops those whose return is still unknown.

    Everything random comes from streams derived from `seed`; the global random state is neither read nor set. A file
    written by `save` holds streams, averages and waiting windows, so that `load(path, env=env, force_reset=False)`
    continues exactly where the saved agent stood, given an `env` that stands there too.

    Args:
        policy: `"MlpPolicy"` or a subclass of :class:`agents.GaussianPolicy`.
        env: Environment, vector environment or registered id, with `Box` observations and bounded `Box` actions.
        learning_rate: Step size, or a function of the remaining progress (1 to 0). Adam wants about 0.001.
        horizon: Rewards in a window, at least 1. Short windows have less noise, long ones see later effects.
        optimizer: `"sgd"` or `"adam"`.
        baseline: Subtract a running mean from the returns. Recommended unless the paper is to be reproduced.
        normalize_returns: Divide the returns (less the baseline) by their running root mean square.
        statistics_decay: Share of the past in these running statistics, in [0, 1).
        max_grad_norm: Longest gradient; None does not clip.
        ent_coef: Weight of the entropy bonus, 0 or more.
        initial_mean: First mean of the actions where [-1, 1] stands for the bounds: a number, or one per dimension.
        initial_std: First standard deviation in the same unit, strictly between 0.05 and 1 (`std_range`).
        policy_kwargs: `net_arch` and `std_range` of the policy.
        stats_window_size: Episodes that the logged means of `rollout/` span.
        tensorboard_log: Folder for TensorBoard; None writes nothing.
        verbose: 0 silent, 1 tables on the screen, 2 more.
        seed: Seed of environment, action space, initial weights and exploration; None takes fresh entropy.
        device: Where the policy lives. It is tiny: the CPU is fastest.

    Raises:
        ValueError: A setting or a space is not supported; a reward or an observation is not finite.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": GaussianPolicy}
    policy: GaussianPolicy
    policy_class: type[GaussianPolicy]
    updates_per_step: ClassVar[int] = 1

    def __init__(
        self,
        policy: str | type[GaussianPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 0.01,
        horizon: int = 5,
        optimizer: str = "sgd",
        baseline: bool = False,
        normalize_returns: bool = False,
        statistics_decay: float = 0.9,
        max_grad_norm: float | None = None,
        ent_coef: float = 0.0,
        initial_mean: float | Sequence[float] = 0.0,
        initial_std: float = 0.5,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.horizon = horizon
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm
        self.ent_coef = ent_coef
        self.initial_mean = initial_mean
        self.initial_std = initial_std
        self.statistics = ReturnStatistics(baseline, normalize_returns, statistics_decay)
        self._format_version = _FORMAT_VERSION
        self._pending: list[deque[Window]] = []
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if self._format_version != _FORMAT_VERSION:
            raise ValueError(
                f"this agent was saved in format {self._format_version}; this version of the package reads format "
                f"{_FORMAT_VERSION}. Load it with the version that wrote it, or train it again."
            )
        self._check_settings()
        super()._setup_model()
        self._setup_lr_schedule()
        optimizer_class, optimizer_kwargs = _OPTIMIZERS[self.optimizer]
        self.policy = self.policy_class(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            initial_mean=self.initial_mean,
            initial_std=self.initial_std,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            seed=self.seed,
            **self.policy_kwargs,
        ).to(self.device)
        self.policy.stream = self._predict_stream
        if len(self._pending) != self.n_envs:  # a loaded agent brings its windows along
            self._pending = [deque() for _ in range(self.n_envs)]

    def _check_settings(self) -> None:
        checks = (
            ("horizon", self.horizon, self.horizon >= 1, "an integer of 1 or more"),
            ("optimizer", self.optimizer, self.optimizer in _OPTIMIZERS, " or ".join(_OPTIMIZERS)),
            ("statistics_decay", self.statistics.decay, 0 <= self.statistics.decay < 1, "in [0, 1)"),
            ("ent_coef", self.ent_coef, self.ent_coef >= 0, "0 or more"),
            ("max_grad_norm", self.max_grad_norm, self.max_grad_norm is None or self.max_grad_norm > 0, "above 0"),
            ("policy", self.policy_class, issubclass(self.policy_class, GaussianPolicy), "a GaussianPolicy"),
        )
        for name, value, valid, allowed in checks:
            if not valid:
                raise ValueError(f"{name} must be {allowed}. Got {value!r}.")

    def set_random_seed(self, seed: int | None = None) -> None:
        """Restart the agent's own streams, the environment's and the action space's; None changes nothing."""
        super().set_random_seed(seed)
        self.policy.stream = self._predict_stream

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.policy.set_training_mode(False)
        obs_tensor, _ = self.policy.obs_to_tensor(obs)
        unit_actions = self.policy.sample(obs_tensor, self._stream)
        actions = self.policy.to_action_space(unit_actions).cpu().numpy().reshape(-1, *self.action_space.shape)
        return actions, unit_actions.cpu().numpy()

    def _observe(self, obs: np.ndarray, unit_actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        for index, windows in enumerate(self._pending):
            windows.append(Window(obs[index], unit_actions[index].copy()))
            for window in windows:
                if not window.is_ready(self.horizon):
                    window.rewards.append(float(rewards[index]))
                    window.closed = bool(dones[index])

    def _forget_episodes(self) -> None:
        for windows in self._pending:
            windows.clear()

    def train(self) -> None:
        """Update the policy once for every group of ready windows, oldest first."""
        self.policy.set_training_mode(True)
        for group in self._ready_groups():
            self._update_learning_rate(self.policy.optimizer)
            self._update(group)
            for windows in self._pending:
                if windows and any(windows[0] is window for window in group):
                    windows.popleft()

    def _ready_groups(self) -> Iterator[list[Window]]:
        """Group the ready windows: the oldest of each environment, then the second oldest, and so on."""
        ready = [[window for window in windows if window.is_ready(self.horizon)] for windows in self._pending]
        for group in zip_longest(*ready):
            yield [window for window in group if window is not None]

    def _update(self, group: list[Window]) -> None:
        returns = np.array([sum(window.rewards) for window in group])
        lengths = np.array([len(window.rewards) for window in group])
        statistics = self.statistics
        advantages = torch.as_tensor(statistics.advantages(returns, lengths), dtype=torch.float32, device=self.device)
        normal = self.policy.distribution(torch.as_tensor(np.stack([w.obs for w in group]), device=self.device))
        actions = torch.as_tensor(np.stack([w.action for w in group]), device=self.device)

        # Eq. 7. Dividing by the environments rather than by the group gives every action the same weight.
        policy_loss = -(advantages * normal.log_prob(actions).sum(dim=1)).sum() / self.n_envs
        entropy_loss = -normal.entropy().sum(dim=1).sum() / self.n_envs
        loss = policy_loss + self.ent_coef * entropy_loss
        self.policy.optimizer.zero_grad()
        loss.backward()
        limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
        grad_norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), limit)
        self.policy.optimizer.step()
        self._n_updates += 1
        self._log_update(policy_loss, entropy_loss, loss, grad_norm, normal.stddev, returns)

    def _log_update(
        self,
        policy_loss: Tensor,
        entropy_loss: Tensor,
        loss: Tensor,
        grad_norm: Tensor,
        std: Tensor,
        returns: np.ndarray,
    ) -> None:
        self.logger.record_mean("train/policy_gradient_loss", policy_loss.item())
        self.logger.record_mean("train/entropy_loss", entropy_loss.item())
        self.logger.record_mean("train/loss", loss.item())
        self.logger.record_mean("train/grad_norm", grad_norm.item())
        self.logger.record_mean("train/return", float(returns.mean()))
        self.logger.record("train/std", std.mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
