"""What every algorithm of this package adds to Stable-Baselines3's base class."""

import io
import pathlib
from typing import Any, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from agents.budget import check_budget

__all__ = ["Guarded"]

Self = TypeVar("Self", bound="Guarded")


class Guarded(BaseAlgorithm):
    """Refuse to learn where the settings do not fit the number of steps, and load on the CPU unless told otherwise.

    To be named before the algorithm's own class among the bases.
    """

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        check_budget(self, total_timesteps, steps_before=0 if reset_num_timesteps else self.num_timesteps)
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    @classmethod
    def load(
        cls: type[Self],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "cpu",
        **kwargs: Any,
    ) -> Self:
        """Load a saved agent like the base class does, on the CPU unless told otherwise."""
        return super().load(path, env=env, device=device, **kwargs)
