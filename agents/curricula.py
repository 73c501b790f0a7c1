"""Curricula that do not learn, as algorithms: one action, a line between two, random actions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import is_vectorized_observation

from agents.random_stream import EXPLORATION, PREDICTION, RandomStream
from agents.schedules import Schedule
from agents.stepwise import StepAlgorithm

__all__ = ["Constant", "Linear", "Random", "Unlearned", "Vector"]

Vector = float | Sequence[float]


class Unlearned(StepAlgorithm):
    """Base of what acts without a network.

    `learn` steps the environment and calls the callback. `predict` returns the state that its next call wants:
    evaluations must hand it on, with `episode_start`, as Stable-Baselines3's `evaluate_policy` does.

    Args:
        policy: None; it is here because Stable-Baselines3 names it when it loads an algorithm.
        env: Environment, vector environment or registered id, with `Box` observations and bounded `Box` actions.
        stats_window_size: Episodes that the logged means of `rollout/` span.
        tensorboard_log: Folder for TensorBoard; None writes nothing.
        verbose: 0 silent, 1 tables on the screen, 2 more.
        seed: Seed of environment, action space and random actions; None takes fresh entropy.
        device: Makes no difference.

    Raises:
        ValueError: A setting or a space is not supported.
    """

    def __init__(
        self,
        policy: None = None,
        env: GymEnv | str | None = None,
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
            learning_rate=0.0,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        self._stream: RandomStream | None = None
        self._predict_stream: RandomStream | None = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_spaces()
        # An agent that was loaded in the middle of an episode must not disturb it.
        if self._last_obs is None:
            super().set_random_seed(self.seed)
        # A loaded agent brings its streams along.
        self._stream = self._stream or RandomStream(self.seed, EXPLORATION)
        self._predict_stream = self._predict_stream or RandomStream(self.seed, PREDICTION)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Restart the agent's own streams, the environment's and the action space's; None changes nothing."""
        if seed is None:
            return
        super().set_random_seed(seed)
        self._stream, self._predict_stream = RandomStream(seed, EXPLORATION), RandomStream(seed, PREDICTION)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return [], []


class _Scheduled(Unlearned):
    """Follow a :class:`agents.Schedule`, which the subclass makes of its settings."""

    policy: Schedule

    def __init__(self, policy: None = None, env: GymEnv | str | None = None, **common: Any) -> None:
        self._steps: tuple[NDArray[np.int64]] | None = None
        super().__init__(policy, env, **common)

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        actions, self._steps = self.policy.predict(obs, self._steps, self._last_episode_starts)
        return actions, None

    def _forget_episodes(self) -> None:
        self._steps = None


class Constant(_Scheduled):
    """Do the same in every step.

    Args:
        policy: None.
        env: See :class:`Unlearned`, as for the other arguments.
        action: One number, or one per dimension, in the units of the action space; None is 0, or the bound nearest
            to it.
        **common: The other arguments of :class:`Unlearned`.
    """

    def __init__(
        self, policy: None = None, env: GymEnv | str | None = None, action: Vector | None = None, **common: Any
    ) -> None:
        self.action = action
        super().__init__(policy, env, **common)

    def _setup_model(self) -> None:
        super()._setup_model()
        vector = _inside("action", self.action, self.action_space)
        self.policy = Schedule(vector, vector, 1, obs_ndim=len(self.observation_space.shape))


class Linear(_Scheduled):
    """Go from one action to another in a straight line within each episode, then hold the second.

    Args:
        policy: None.
        env: See :class:`Unlearned`, as for the other arguments.
        start: First action: one number, or one per dimension, in the units of the action space; None is 0, or the bound
            nearest to it.
        end: Last action, likewise.
        rounds: Steps from the first action to the last, both included.
        **common: The other arguments of :class:`Unlearned`.
    """

    def __init__(
        self,
        policy: None = None,
        env: GymEnv | str | None = None,
        start: Vector | None = None,
        end: Vector | None = None,
        rounds: int = 25,
        **common: Any,
    ) -> None:
        self.start, self.end, self.rounds = start, end, rounds
        super().__init__(policy, env, **common)

    def _setup_model(self) -> None:
        super()._setup_model()
        start, end = (_inside(name, getattr(self, name), self.action_space) for name in ("start", "end"))
        self.policy = Schedule(start, end, self.rounds, obs_ndim=len(self.observation_space.shape))


class Random(Unlearned):
    """Act at random, uniformly within the bounds of the action space.

    `predict` draws whatever `deterministic` says: a frozen random curriculum is still random. It has a stream of its
    own, so that predictions do not disturb learning.
    """

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        return self._stream.uniform(self.action_space, self.n_envs), None

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Draw an action for each observation.

        Args:
            observation: One observation or a batch [E, ...]; only the shape is looked at.
            state: Makes no difference.
            episode_start: Makes no difference.
            deterministic: Makes no difference.

        Returns:
            Action [A] or actions [E, A], and None.
        """
        is_batch = is_vectorized_observation(observation, self.observation_space)
        actions = self._predict_stream.uniform(self.action_space, len(observation) if is_batch else 1)
        return actions if is_batch else actions[0], None


def _inside(name: str, value: Vector | None, space: spaces.Box) -> NDArray[np.float64]:
    """Return a setting as an array of the action space's shape, or say what is wrong with it."""
    if value is None:
        return np.clip(np.zeros(space.shape), space.low, space.high)
    try:
        vector = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be one number, or one for each action dimension. Got {value!r}.") from error
    if vector.ndim and vector.size != np.prod(space.shape):
        raise ValueError(
            f"{name} must be one number or {np.prod(space.shape)} numbers (one for each action dimension). "
            f"Got {vector.size}."
        )
    vector = np.broadcast_to(vector, space.shape) if not vector.ndim else vector.reshape(space.shape)
    # The bounds are float32: 0.1 in a file must not lie outside a bound of 0.1.
    rounded = vector.astype(space.dtype)
    if not ((rounded >= space.low) & (rounded <= space.high)).all():
        raise ValueError(
            f"{name} must lie within the bounds of the action space, {space.low.min()} to {space.high.max()}. "
            f"Got {vector.tolist()}."
        )
    return vector
