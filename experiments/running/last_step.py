"""The last step of an environment as the environment saw it, and an end after which it takes no more."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

__all__ = ["LastStep", "RunsOver", "WatchedEnv"]


class RunsOver(Exception):
    """An algorithm asked for a step after the last run had ended."""


@dataclass(frozen=True)
class LastStep:
    """One step of all environments: actions as they arrived, rewards before any normalisation."""

    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    infos: list[dict[str, Any]]


class WatchedEnv(VecEnvWrapper):
    """Keep the last step, whatever an algorithm lets its callbacks know of it, and end learning between two steps.

    A callback that returns False ends it, too, but before the step has been learnt from: Stable-Baselines3 then leaves
    out the update that is due.

    Args:
        venv: The environments.

    Attributes:
        last_step: The last step; there is none before the first.
        is_over: Set it to raise `RunsOver` instead of taking another step.
    """

    last_step: LastStep

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.is_over = False

    def reset(self) -> VecEnvObs:
        """Reset the environments."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Begin a step."""
        if self.is_over:
            raise RunsOver
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish the step, and keep it."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self.last_step = LastStep(self._actions, rewards.copy(), dones.copy(), infos)
        return observations, rewards, dones, infos
