"""Stable-Baselines3's on-policy algorithms, made to run exactly as many steps as asked for."""

from typing import ClassVar

import stable_baselines3
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.budget import rollout_length
from agents.guarded import Guarded

__all__ = ["A2C", "PPO"]


class _ExactRollouts(Guarded, OnPolicyAlgorithm):
    """Make rollouts of at most `n_steps`, as equal as possible, that end with the last step asked for.

    The base class rounds the number of steps up to whole rollouts. Where `n_steps` divides it the two are the same.
    The lengths depend on the steps that are left, so that a call that was interrupted between two rollouts and is
    continued makes the ones that it would have made.
    """

    exact_rollouts: ClassVar[bool] = True

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Collect the next rollout, as the base class does."""
        steps_left = (self._total_timesteps - self.num_timesteps) // self.n_envs
        length = rollout_length(steps_left, n_rollout_steps)
        rollout_buffer.buffer_size = length  # the base class resets the buffer, which takes this size on
        return super().collect_rollouts(env, callback, rollout_buffer, length)


class PPO(_ExactRollouts, stable_baselines3.PPO):
    """Proximal policy optimisation of Stable-Baselines3; see its documentation for the settings."""


class A2C(_ExactRollouts, stable_baselines3.A2C):
    """Advantage actor-critic of Stable-Baselines3; see its documentation for the settings."""
