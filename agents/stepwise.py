"""Base of the algorithms of our own: act, observe and update step by step, on Stable-Baselines3's interface."""

import sys
import time
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from agents.random_stream import EXPLORATION, PREDICTION, RandomStream
from agents.stable_baselines import Guarded, own_numerics

__all__ = ["StepAlgorithm", "Unlearned"]

Self = TypeVar("Self", bound="StepAlgorithm")


class StepAlgorithm(Guarded):
    """Step all environments once, remember, update: one iteration (rollout) is one step.

    After every iteration the agent is in a state from which it can be continued exactly. Everything random comes from
    streams of its own, one for learning and one for `predict`; the global random state is neither read nor set.

    Args:
        policy: Policy, its class or its name, as for the base class.
        env: Environment, vector environment or registered id, with `Box` observations and bounded `Box` actions.
        learning_rate: As for the base class.
        **common: Its other arguments.

    Raises:
        ValueError: A space is not a `Box`; a reward or an observation is not finite.
    """

    updates_per_step: ClassVar[int] = 0
    """Gradient updates that one step of all environments makes, on average."""

    env: VecEnv  # or None, which is enough for `predict`
    action_space: spaces.Box
    observation_space: spaces.Box
    _last_obs: np.ndarray  # or None before the first reset
    _stream: RandomStream
    _predict_stream: RandomStream

    def __init__(
        self,
        policy: str | type[BasePolicy] | None,
        env: GymEnv | str | None,
        learning_rate: float | Schedule,
        **common: Any,
    ) -> None:
        super().__init__(policy, env, learning_rate, support_multi_env=True, **common)  # type: ignore[arg-type]

    def _setup_model(self) -> None:
        for name in ("observation_space", "action_space"):
            space = getattr(self, name)
            if not isinstance(space, spaces.Box):
                raise ValueError(f"{name} must be a Box: wrap the environment. Got {space}.")
        # An agent that was loaded in the middle of an episode must not disturb it.
        if self._last_obs is None:
            self._seed_environment(self.seed)
        if not hasattr(self, "_stream"):  # a loaded agent brings its streams along
            self._start_streams(self.seed)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Restart the agent's own streams, the environment's and the action space's; None changes nothing.

        Unlike in the base class, the global generators of Python, NumPy and PyTorch are left alone.
        """
        if seed is not None:
            self._seed_environment(seed)
            self._start_streams(seed)

    def _seed_environment(self, seed: int | None) -> None:
        if seed is None:
            return
        self.action_space.seed(seed)
        if self.env is not None:
            self.env.seed(seed)

    def _start_streams(self, seed: int | None) -> None:
        self._stream, self._predict_stream = RandomStream(seed, EXPLORATION), RandomStream(seed, PREDICTION)

    @abstractmethod
    def _act(self, obs: np.ndarray) -> tuple[np.ndarray, Any]:
        """Choose actions.

        Args:
            obs: Observations [E, ...] of the environments.

        Returns:
            Actions [E, ...] in the units of the action space, which may leave its bounds, and anything that `_observe`
            wants to know about them.
        """

    def _observe(self, obs: np.ndarray, memory: Any, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Remember what came of a step: `obs` and `memory` of `_act`, rewards [E] and ends of episodes [E]."""

    def _forget_episodes(self) -> None:
        """Drop what was remembered of unfinished episodes: the environments were reset."""

    def train(self) -> None:
        """Update from what is remembered; called after every step and when `learn` begins."""

    @own_numerics()
    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 25,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for `total_timesteps` steps, summed over the environments.

        Args:
            total_timesteps: Environment steps, a multiple of the number of environments.
            callback: Called after every step; one iteration (rollout) is one step of all environments.
            log_interval: Iterations between log entries; None writes none.
            tb_log_name: Name of the run in TensorBoard.
            reset_num_timesteps: Start anew (reset counters and environment) rather than continue.
            progress_bar: Show one; needs tqdm and rich.

        Returns:
            The agent itself.
        """
        resets = reset_num_timesteps or self._last_obs is None
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        self._check_finite("observation", self._last_obs)
        self._update_current_progress_remaining(self.num_timesteps, max(total_timesteps, 1))
        # An interruption, or a file saved by a callback, may have left something to learn from.
        self.train()
        if resets:
            self._forget_episodes()

        iteration = 0
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            proceed = self._collect(callback)
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self.train()
            if not proceed:
                break
            iteration += 1
            if log_interval is not None and iteration % log_interval == 0:
                self.dump_logs(iteration)
        callback.on_training_end()
        return self

    def _collect(self, callback: BaseCallback) -> bool:
        """Step every environment once and store what came of it; return False if the callback wants to stop."""
        callback.on_rollout_start()
        obs = np.array(self._last_obs)
        actions, memory = self._act(obs)
        clipped_actions = np.clip(actions, self.action_space.low, self.action_space.high)
        new_obs: np.ndarray
        new_obs, rewards, dones, infos = self.env.step(clipped_actions)  # type: ignore[assignment]
        self._check_finite("reward", rewards)
        self._check_finite("observation", new_obs)

        # Memory and observation change together: whoever interrupts or saves from here on finds a consistent agent.
        self._observe(obs, memory, rewards, dones)
        self._last_obs, self._last_episode_starts = new_obs, dones
        self.num_timesteps += self.n_envs
        self._update_info_buffer(infos, dones)
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        callback.on_rollout_end()
        return True

    def _check_finite(self, what: str, values: np.ndarray) -> None:
        finite = np.isfinite(values).reshape(self.n_envs, -1).all(axis=1)
        if not finite.all():
            index = int(np.argmin(finite))
            raise ValueError(
                f"the environment returned a non-finite {what} at step {self.num_timesteps + 1} (environment {index}): "
                f"{values[index]}. No update was made; correct the environment."
            )

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log entry of an iteration, with the keys that Stable-Baselines3's on-policy algorithms use."""
        elapsed_s = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        if iteration > 0:
            self.logger.record("time/iterations", iteration, exclude="tensorboard")
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed_s))
        self.logger.record("time/time_elapsed", int(elapsed_s), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)


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
            seed=seed,
            device=device,
        )
        if _init_setup_model:
            self._setup_model()

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return [], []
