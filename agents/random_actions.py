"""Random curricula: a new action in every step, or the best of many constant ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import is_vectorized_observation

from agents.stepwise import Unlearned

__all__ = ["Random", "RandomSearch"]


class Random(Unlearned):
    """Act at random, uniformly within the bounds of the action space.

    `predict` draws whatever `deterministic` says: a frozen random curriculum is still random. It has a stream of its
    own, so that predictions do not disturb learning.
    """

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        return self._stream.uniform(self.action_space, self.n_envs), None

    def predict(  # type: ignore[override]  # observations are arrays
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


class RandomSearch(Unlearned):
    """Try one constant action in each episode, drawn uniformly within the bounds, and keep the best.

    The best is the one whose *finished* episode has the highest mean reward; among equals, the first. With
    `VecNormalize` the rewards before normalisation count. An episode that the end of `learn` cuts counts when a later
    call finishes it (`reset_num_timesteps=False`), and otherwise not at all. The best is kept across calls.

    Attributes:
        best_action: The best action so far, of the action space's shape; None before the first finished episode.
        best_reward: Its mean reward; None before the first finished episode.
        episodes: Finished episodes.
    """

    # For each environment: the rewards of the current episode, and its action.
    _rewards: list[list[float]]
    _candidates: NDArray[np.floating]

    def __init__(self, policy: None = None, env: GymEnv | str | None = None, **common: Any) -> None:
        self.best_action: NDArray[np.floating] | None = None
        self.best_reward: float | None = None
        self.episodes = 0
        super().__init__(policy, env, **common)

    def _forget_episodes(self) -> None:
        self._rewards = [[] for _ in range(self.n_envs)]
        self._candidates = np.zeros((self.n_envs, *self.action_space.shape), self.action_space.dtype)

    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, None]:
        starts = np.asarray(self._last_episode_starts, bool)
        self._candidates[starts] = self._stream.uniform(self.action_space, int(starts.sum()))
        return self._candidates.copy(), None

    def _observe(self, obs: np.ndarray, memory: Any, rewards: np.ndarray, dones: np.ndarray) -> None:
        if self._vec_normalize_env is not None:
            rewards = self._vec_normalize_env.get_original_reward()
        for index, (reward, done) in enumerate(zip(rewards, dones, strict=True)):
            self._rewards[index].append(float(reward))
            if done:
                self._finish(index)

    def _finish(self, index: int) -> None:
        mean = float(np.mean(self._rewards[index]))
        self._rewards[index] = []
        self.episodes += 1
        if self.best_reward is None or mean > self.best_reward:
            self.best_action, self.best_reward = self._candidates[index].copy(), mean
        self.logger.record("search/best_reward", self.best_reward)

    def predict(  # type: ignore[override]  # observations are arrays
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Return the best action so far; before the first finished episode, the centre of the action space.

        Args:
            observation: One observation or a batch [E, ...]; only the shape is looked at.
            state: Makes no difference.
            episode_start: Makes no difference.
            deterministic: Makes no difference.

        Returns:
            Action [A] or actions [E, A], and None.
        """
        action = self.best_action
        if action is None:
            action = ((self.action_space.low + self.action_space.high) / 2).astype(self.action_space.dtype)
        is_batch = is_vectorized_observation(observation, self.observation_space)
        return (np.repeat(action[None], len(observation), axis=0) if is_batch else action.copy()), None
