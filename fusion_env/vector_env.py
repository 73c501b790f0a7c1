"""Several students in one process: the native vector environment and its Stable-Baselines3 form."""

import copy
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from fusion_env.env import FusionDistillEnv
from fusion_env.errors import SnapshotError
from fusion_env.workers import Member, check_counts, make_members, one_thread_each, steps_begun

if TYPE_CHECKING:
    from fusion_env.sb3_vec_env import StudentsVecEnv

__all__ = ["FusionDistillVectorEnv", "make_sb3_vec_env"]


class FusionDistillVectorEnv(SyncVectorEnv):
    """K students that share data, teacher targets and networks.

    ``gymnasium.make_vec(id, num_envs=K)`` makes this environment. Student k is as in an environment of its own that is
    reset with the k-th seed: on the CPU to the last bit.

    Several students are trained at a time where the cores have room for them: each takes the setting `threads`, so
    that on a machine with C cores C / threads students are trained beside each other, in threads of this process, and
    with ``threads=C`` one after the other. Without the setting, each of several students has one thread, which is the
    fastest. On CUDA all students are trained at a time, as far as there are cores, each by a thread on a stream of its
    own.

    All actions are checked before any student is trained. If a student fails, the error names it, and the others may
    be a round further.

    Args:
        num_envs: Number of students K.
        preset: Name of a preset; see `FusionDistillEnv`.
        render_mode: As for `FusionDistillEnv`.
        autoreset_mode: When finished runs start again; see gymnasium's `AutoresetMode`.
        max_episode_steps: Cut runs off after so many rounds, as `gymnasium.make` does.
        workers: Students that are trained at a time; None for as many as the cores have room for, 1 for in turn.
        **overrides: Other arguments of `FusionDistillEnv`; ``threads=None`` leaves PyTorch's number as it is.

    Raises:
        ValueError: A number is below 1.
    """

    envs: list[Member]  # type: ignore[assignment]

    def __init__(
        self,
        num_envs: int,
        preset: str = "demo",
        *,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        workers: int | None = None,
        **overrides: Any,
    ) -> None:
        def wrap(env: FusionDistillEnv) -> gymnasium.Env:
            return env if max_episode_steps is None else _Limited(env, max_episode_steps)

        check_counts(num_envs, workers)
        task = FusionDistillEnv(preset, render_mode=render_mode, **one_thread_each(num_envs, overrides)).task
        members, self._workers = make_members(task, num_envs, workers, wrap, render_mode)
        super().__init__([member.itself for member in members], autoreset_mode=autoreset_mode)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Train all students for one round; see `FusionDistillEnv.step` and gymnasium's `AutoresetMode`.

        Raises:
            ValueError: An action has the wrong shape or is not finite; no student was trained.
            gymnasium.error.ResetNeeded: With ``AutoresetMode.DISABLED``, a run is over; no student was trained.
        """
        over = self._autoreset_envs.copy()  # gymnasium's: whose run ended with the last step
        if self.autoreset_mode == AutoresetMode.DISABLED and over.any():
            ended = ", ".join(map(str, np.flatnonzero(over)))
            raise gymnasium.error.ResetNeeded(
                f"the runs of students {ended} are over: reset them, by reset(options={{'reset_mask': mask}})"
            )
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            over[:] = False
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        with steps_begun(self.envs, actions, over=over.tolist(), resets=same_step):
            return super().step(actions)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of all runs, as `FusionDistillEnv.state_dict` does of one.

        Raises:
            gymnasium.error.ResetNeeded: There are no runs yet.
        """
        return {
            "students": [member.unwrapped.state_dict() for member in self.envs],
            "over": self._autoreset_envs.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s output.

        Raises:
            SnapshotError: The snapshot has another number of students, or one of them does not fit; the environment is
                unchanged.
        """
        students, over = (state.get(name, ()) for name in ("students", "over"))
        if len(students) != self.num_envs or len(over) != self.num_envs:
            raise SnapshotError(f"the snapshot is of {len(students)} students, this environment has {self.num_envs}")
        trial = FusionDistillEnv.from_task(self.envs[0].unwrapped.task)
        for index, student in enumerate(students):
            try:
                trial.load_state_dict(student)
            except SnapshotError as error:
                raise SnapshotError(f"student {index}: {error}") from error
        for index, (member, student) in enumerate(zip(self.envs, students, strict=True)):
            member.unwrapped.load_state_dict(student)
            self._env_obs[index] = member.unwrapped.run.observation.copy()  # type: ignore[call-overload]
        self._autoreset_envs = np.array(over, np.bool_)
        self._terminations, self._truncations = self._autoreset_envs.copy(), np.zeros(self.num_envs, np.bool_)

    def fork(self, seed: int | None = None) -> "FusionDistillVectorEnv":
        """Return an independent vector environment in the same state, ready to step; see `FusionDistillEnv.fork`.

        Args:
            seed: Give copy k random streams of its own, of ``seed + k``; None copies those of the students, so that
                equal actions have equal results in both.
        """
        other = copy.deepcopy(self)
        for index, member in enumerate(other.envs):
            if seed is not None:
                member.unwrapped.reseed(seed + index)
        return other

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments and end the threads."""
        super().close_extras(**kwargs)
        self._workers.close()

    @property
    def spec(self) -> EnvSpec | None:
        """How `gymnasium.make_vec` made the environment; each student's environment has it as well."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec
        for env in self.envs:
            env.unwrapped.spec = spec


class _Limited(gymnasium.Wrapper):
    """Truncate runs as gymnasium's `TimeLimit` does, by the count of the run: a state that is loaded has its own."""

    def __init__(self, env: FusionDistillEnv, rounds: int) -> None:
        super().__init__(env)
        self._rounds = rounds

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        over = cast("FusionDistillEnv", self.unwrapped).run.rounds >= self._rounds
        return observation, reward, terminated, truncated or over, info


def make_sb3_vec_env(
    num_envs: int, preset: str = "demo", *, seed: int | None = None, workers: int | None = None, **overrides: Any
) -> "StudentsVecEnv":
    """Make K students as a Stable-Baselines3 vector environment, in one process and sharing data.

    Args:
        num_envs: Number of students K.
        preset: Name of a preset; see `FusionDistillEnv`.
        seed: Student i is reset with ``seed + i``.
        workers: As for `FusionDistillVectorEnv`.
        **overrides: Other arguments of `FusionDistillEnv`.

    Returns:
        The environment, each student wrapped in a `Monitor`.
    """
    # Here, because importing it draws from Python's global generator, which is nobody's business in the class above.
    from fusion_env.sb3_vec_env import StudentsVecEnv

    check_counts(num_envs, workers)
    first = FusionDistillEnv(preset, **one_thread_each(num_envs, overrides))
    env = StudentsVecEnv(first.task, num_envs, render_mode=first.render_mode, workers=workers)
    if seed is not None:
        env.seed(seed)
    return env
