"""Stable-Baselines3's off-policy algorithms, made to go on exactly where they stopped."""

import copy

import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback

from agents.guarded import Guarded

__all__ = ["SAC", "TD3", "SteadyNoise"]


class SteadyNoise(Guarded, OffPolicyAlgorithm):
    """Keep the action noise going when learning continues; the base class restarts it in every call of `learn`."""

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        noise = self.action_noise
        before = copy.deepcopy(vars(noise)) if noise is not None else None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        # The very first call with several environments puts another noise in the place of this one.
        if before is not None and not reset_num_timesteps and self.action_noise is noise:
            vars(noise).update(before)
        return result


class SAC(SteadyNoise, stable_baselines3.SAC):
    """Soft actor-critic of Stable-Baselines3; see its documentation for the settings."""


class TD3(SteadyNoise, stable_baselines3.TD3):
    """Twin-delayed deterministic policy gradient of Stable-Baselines3; see its documentation for the settings."""
