"""Several students in one process: the native vector environment and its Stable-Baselines3 form."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from fusion_env.env import FusionDistillEnv

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import DummyVecEnv

__all__ = ["FusionDistillVectorEnv", "make_sb3_vec_env"]


class FusionDistillVectorEnv(SyncVectorEnv):
    """K students that share data, teacher targets and networks and are trained in turn.

    ``gymnasium.make_vec(id, num_envs=K)`` makes this environment.

    Args:
        num_envs: Number of students K.
        preset: Name of a preset; see `FusionDistillEnv`.
        render_mode: As for `FusionDistillEnv`.
        autoreset_mode: When finished runs start again; see gymnasium's `AutoresetMode`.
        max_episode_steps: Cut runs off after so many rounds, as `gymnasium.make` does.
        **overrides: Other arguments of `FusionDistillEnv`.
    """

    def __init__(
        self,
        num_envs: int,
        preset: str = "demo",
        *,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **overrides: Any,
    ) -> None:
        make = _factory(num_envs, preset, render_mode=render_mode, **overrides)

        def make_limited() -> gymnasium.Env:
            return make() if max_episode_steps is None else TimeLimit(make(), max_episode_steps)

        super().__init__([make_limited] * num_envs, autoreset_mode=autoreset_mode)

    @property
    def spec(self) -> EnvSpec | None:
        """How `gymnasium.make_vec` made the environment; each student's environment has it as well."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec
        for env in self.envs:
            env.unwrapped.spec = spec


def make_sb3_vec_env(
    num_envs: int, preset: str = "demo", *, seed: int | None = None, **overrides: Any
) -> "DummyVecEnv":
    """Make K students as a Stable-Baselines3 vector environment, in one process and sharing data.

    Args:
        num_envs: Number of students K.
        preset: Name of a preset; see `FusionDistillEnv`.
        seed: Student i is reset with ``seed + i``.
        **overrides: Other arguments of `FusionDistillEnv`.

    Returns:
        The environment, each student wrapped in a `Monitor`.
    """
    # Here, because importing it draws from Python's global generator, which is nobody's business in the class above.
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    make = _factory(num_envs, preset, **overrides)
    env = DummyVecEnv([lambda: Monitor(make())] * num_envs)
    if seed is not None:
        env.seed(seed)
    return env


def _factory(num_envs: int, preset: str, **arguments: Any) -> Callable[[], FusionDistillEnv]:
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1. Got {num_envs}")
    first = FusionDistillEnv(preset, **arguments)
    return partial(FusionDistillEnv.from_task, first.task, first.render_mode)
