"""For callbacks: the action that was executed, and the moments at which an agent's state is complete.

What `self.locals` holds in `on_step`, for E environments with actions of shape [A]:

| key | reinforce, curricula, wrapped policies | ppo, a2c | sac, td3, tqc |
|---|---|---|---|
| ``actions`` | as chosen, may leave the bounds | as sampled, may leave the bounds | as executed |
| ``clipped_actions`` | as executed | as executed | absent |
| ``buffer_actions`` | absent | absent | scaled to [-1, 1] |
| ``rewards`` [E], ``dones`` [E] | of this step | of this step | of this step |
| ``infos`` | list of E dicts | list of E dicts | list of E dicts |
| ``new_obs`` [E, ...] | next observation; after an episode's end the first of the next one | same | same |

Copy what is kept: Stable-Baselines3 adds bootstrapped values to ``rewards`` after `on_step`. With `VecNormalize`,
``rewards`` and ``new_obs`` are the normalised ones.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.stepwise import StepAlgorithm

__all__ = ["CompleteStateCallback", "executed_actions"]


def executed_actions(model: BaseAlgorithm, local_variables: Mapping[str, Any]) -> np.ndarray:
    """Return the actions that the environments received in this step.

    Args:
        model: The algorithm, `self.model` of a callback.
        local_variables: `self.locals` of the callback in `on_step`.

    Returns:
        A copy [E, A]; actions of several dimensions are flattened.
    """
    key = "clipped_actions" if "clipped_actions" in local_variables else "actions"
    return np.array(local_variables[key]).reshape(model.n_envs, -1)


class CompleteStateCallback(BaseCallback):
    """Tell a subclass when :func:`agents.save_state` can save everything that the continuation depends on.

    `on_complete_state` is called before the first step of a call of `learn`, and then

    - `ppo`, `a2c`: between two rollouts, after the update;
    - `sac`, `td3`, `tqc`: between two rollouts of `train_freq` steps, after the gradient steps;
    - `reinforce`, curricula, wrapped policies: after every step;

    and once at the end of `learn`, unless a callback stopped an algorithm of Stable-Baselines3 in the middle of a
    rollout: the last step is then in no buffer. A stop at the very last step asked for is none, so that the update that
    is due then is made. Raise an exception in `on_complete_state` to stop there: the state is
    that of the last complete moment.

    A subclass that overrides `_on_rollout_start`, `_on_rollout_end` or `_on_training_end` calls the base class's.
    """

    def __init__(self, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._inside_rollout = False

    @abstractmethod
    def on_complete_state(self) -> None:
        """Do what has to be done while the state is complete; `self.model` is the algorithm."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.on_complete_state()
        self._inside_rollout = not isinstance(self.model, StepAlgorithm)

    def _on_rollout_end(self) -> None:
        self._inside_rollout = False

    def _on_training_end(self) -> None:
        if not self._inside_rollout:
            self.on_complete_state()
