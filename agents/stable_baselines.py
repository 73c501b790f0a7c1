"""Stable-Baselines3's algorithms, made to fit their settings, run exactly the steps asked for, and go on exactly."""

import copy
import io
import pathlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.budget import check_budget, rollout_length
from agents.first_policy import FirstPolicy

__all__ = ["A2C", "PPO", "SAC", "TD3", "Guarded", "SteadyNoise", "own_numerics"]


@contextmanager
def own_numerics() -> Iterator[None]:
    """Compute with gradients, without autocast, in float32 on the CPU by default, then put back what was set."""
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # only then: the context slows every later call of torch
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, dtype)
        yield


class _LastStep(CallbackList):
    """A stop at the last step is none: learning ends there by itself, after the update that is due."""

    def _on_step(self) -> bool:
        return super()._on_step() or self.num_timesteps >= self.model._total_timesteps


Self = TypeVar("Self", bound="Guarded")


class Guarded(BaseAlgorithm):
    """Refuse to learn where the settings do not fit the number of steps, and load on the CPU unless told otherwise.

    A callback that stops at the very last step does not keep the update from being made that is due then.
    What the caller has set in PyTorch (gradients, autocast, dtype, device) changes nothing.

    Every algorithm of this package has it among its bases, before the algorithm's own class.
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

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        outer = _LastStep([super()._init_callback(callback, progress_bar)])
        outer.model = self  # and no more of `init_callback`: what it would begin has begun
        return outer

    @own_numerics()
    def learn(self: Self, total_timesteps: int, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Learn like the base class does."""
        return super().learn(total_timesteps, *args, **kwargs)  # type: ignore[safe-super]  # algorithms have one

    @own_numerics()
    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> tuple[np.ndarray, Any]:  # type: ignore[override]
        """Choose actions like the base class does."""
        return super().predict(observation, *args, **kwargs)

    @classmethod
    @own_numerics()
    def load(  # type: ignore[override]  # the rest of the base class's arguments are in **kwargs
        cls: type[Self],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "cpu",
        **kwargs: Any,
    ) -> Self:
        """Load a saved agent like the base class does, on the CPU unless told otherwise."""
        return super().load(path, env=env, device=device, **kwargs)


class _ExactRollouts(Guarded, FirstPolicy, OnPolicyAlgorithm):
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
    """Proximal policy optimisation of Stable-Baselines3; see its documentation for the other settings."""


class A2C(_ExactRollouts, stable_baselines3.A2C):
    """Advantage actor-critic of Stable-Baselines3; see its documentation for the other settings."""


class SteadyNoise(Guarded, FirstPolicy, OffPolicyAlgorithm):
    """Keep the action noise going when learning continues; the base class restarts it in every call of `learn`."""

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose an action like the base class does, which draws from the whole space before `learning_starts`."""
        random_steps = learning_starts if self.initial_mean is None else 0
        return super()._sample_action(random_steps, action_noise, n_envs)

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
    """Soft actor-critic of Stable-Baselines3; see its documentation for the other settings."""


class TD3(SteadyNoise, stable_baselines3.TD3):
    """Twin-delayed deterministic policy gradient of Stable-Baselines3; see its documentation for the other settings."""
