"""Curricula that are fixed in advance: one action in every step, or a line from one to another."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.type_aliases import GymEnv

from agents.stepwise import Unlearned

__all__ = ["ActionSchedule", "Constant", "Linear", "Vector", "vector_inside"]

Vector = float | Sequence[float]


class ActionSchedule:
    """Go from one action to another in a straight line, then hold the second.

    Step k of an episode, counted from 0, gets ``start + (end - start) * min(k / (rounds - 1), 1)``: the first action is
    `start`, that of step ``rounds - 1`` and of all later ones is `end`. Every environment has its own count, which
    travels through `predict` as the state and starts again with each episode.

    Args:
        start: First action [A].
        end: Last action [A].
        rounds: Steps from the first action to the last, both included; at least 1.
        obs_ndim: Dimensions of one observation; an array of more dimensions is a batch.

    Raises:
        ValueError: The vectors differ in length or are not finite numbers, or `rounds` is below 1.
        TypeError: `rounds` is no integer.
    """

    def __init__(self, start: ArrayLike, end: ArrayLike, rounds: int, *, obs_ndim: int = 1) -> None:
        self.start, self.end = _numbers("start", start), _numbers("end", end)
        if self.start.shape != self.end.shape:
            raise ValueError(f"start and end must have one shape. Got {self.start.shape} and {self.end.shape}.")
        if not isinstance(rounds, Integral) or isinstance(rounds, bool):
            raise TypeError(f"rounds must be an integer. Got {rounds!r}.")
        if rounds < 1:
            raise ValueError(f"rounds must be 1 or more. Got {rounds!r}.")
        self.rounds: int = rounds
        self.obs_ndim: int = obs_ndim

    def action(self, step: ArrayLike) -> NDArray[np.float32]:
        """Return the action [..., A] of each step [...] of an episode, counted from 0."""
        share = np.minimum(np.asarray(step) / max(self.rounds - 1, 1), 1.0)
        share = np.expand_dims(share, tuple(range(share.ndim, share.ndim + self.start.ndim)))
        # In this form both ends are met exactly.
        return ((1 - share) * self.start + share * self.end).astype(np.float32)

    def predict(
        self,
        observation: NDArray[np.floating],
        state: Sequence[NDArray[np.int64]] | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.int64]]]:
        """Return the next action of each environment, in the form of Stable-Baselines3.

        Args:
            observation: One observation or a batch [E, ...]; only the shape is looked at.
            state: What the call before returned; None begins at step 0.
            episode_start: Whether an episode begins, for each environment [E]; None stands for no.
            deterministic: Makes no difference.

        Returns:
            Action [A] or actions [E, A], and the state for the next call: (steps done [E],).

        Raises:
            ValueError: `state` or `episode_start` belong to another number of environments.
        """
        is_batch = np.ndim(observation) > self.obs_ndim
        count = len(observation) if is_batch else 1
        steps = np.zeros(count, np.int64) if state is None else np.array(_only(state), np.int64)
        if steps.shape != (count,):
            raise ValueError(f"the state must be that of {count} environment(s). Got {state!r}.")
        if episode_start is not None:
            starts = np.asarray(episode_start, bool)
            if starts.size != count:
                raise ValueError(f"episode_start must be that of {count} environment(s). Got {starts.size}.")
            steps[starts.reshape(count)] = 0
        actions = self.action(steps)
        return actions if is_batch else actions[0], (steps + 1,)


class _Scheduled(Unlearned):
    """Follow an :class:`ActionSchedule`, which the subclass makes of its settings."""

    policy: ActionSchedule  # type: ignore[assignment]

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
        vector = vector_inside("action", self.action, self.action_space)
        self.policy = ActionSchedule(vector, vector, 1, obs_ndim=len(self.observation_space.shape))


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
        start, end = (vector_inside(name, getattr(self, name), self.action_space) for name in ("start", "end"))
        self.policy = ActionSchedule(start, end, self.rounds, obs_ndim=len(self.observation_space.shape))


def _numbers(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        vector = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers. Got {value!r}.") from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite. Got {vector.tolist()}.")
    return vector


def _only(state: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    if not isinstance(state, Sequence) or len(state) != 1:
        raise ValueError(f"the state must be what predict returned: (steps done [E],). Got {state!r}.")
    return state[0]


def vector_inside(name: str, value: Vector | None, space: spaces.Box) -> NDArray[np.float64]:
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
