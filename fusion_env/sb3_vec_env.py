"""Several students in one process, as a vector environment of Stable-Baselines3."""

from typing import cast

from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from fusion_env.task import DistillationTask
from fusion_env.workers import Member, make_members, steps_begun

__all__ = ["StudentsVecEnv"]


class StudentsVecEnv(DummyVecEnv):
    """Students that share a task, each wrapped in a `Monitor`.

    As with every vector environment of Stable-Baselines3, a run that ends is followed by the next in the same step:
    the infos of the last step hold ``terminal_observation``, ``TimeLimit.truncated``, ``episode`` and the report, and
    the attribute `last_run` of each member, by ``env.get_attr("last_run")``, what the run left behind.

    Args:
        task: The task.
        num_envs: Number of students K.
        render_mode: As for `FusionDistillEnv`.
        workers: As for `fusion_env.vector_env.FusionDistillVectorEnv`.
    """

    def __init__(
        self, task: DistillationTask, num_envs: int, *, render_mode: str | None = None, workers: int | None = None
    ) -> None:
        members, self._workers = make_members(task, num_envs, workers, Monitor, render_mode)
        super().__init__([member.itself for member in members])

    def step_wait(self) -> VecEnvStepReturn:
        """Train all students for one round."""
        members = cast("list[Member]", self.envs)
        with steps_begun(members, self.actions, over=[False] * self.num_envs, resets=True):
            return super().step_wait()

    def close(self) -> None:
        """Close the environments and end the threads."""
        super().close()
        self._workers.close()
