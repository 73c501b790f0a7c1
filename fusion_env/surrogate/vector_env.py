"""Many surrogate environments at once: all students of the model take their round together."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from fusion_env.action import decode_action
from fusion_env.degradation import Degradation
from fusion_env.errors import ConfigError
from fusion_env.surrogate.env import ACTION_SPACE, NO_WEIGHTS, OBSERVATION_SPACE
from fusion_env.surrogate.model import NoiseStreams, load_surrogate

__all__ = ["FusionDistillSurrogateVectorEnv"]


class FusionDistillSurrogateVectorEnv(VectorEnv):
    """K surrogates that are computed together; ``gymnasium.make_vec(id, num_envs=K)`` makes this environment.

    Student k is as in an environment of its own that is reset with the k-th seed, but for rounding. A run that is over
    starts again with the next step, which pays nothing (gymnasium's ``NEXT_STEP``). Infos are arrays over the students.

    Args:
        num_envs: Number of students K.
        noise: As for `fusion_env.surrogate.env.FusionDistillSurrogateEnv`.

    Raises:
        ConfigError: A number is out of range.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (gymnasium's declaration)

    def __init__(self, num_envs: int, *, noise: float = 1.0) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1. Got {num_envs}")
        self.num_envs, self.model = num_envs, load_surrogate()
        self.streams = NoiseStreams(self.model, noise)
        self.single_action_space, self.single_observation_space = ACTION_SPACE, OBSERVATION_SPACE
        self.action_space, self.observation_space = (
            batch_space(s, num_envs) for s in (ACTION_SPACE, OBSERVATION_SPACE)
        )
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._rounds: NDArray[np.int64] | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start all runs from the stage-0 student.

        Args:
            seed: Student k gets ``seed + k``, or the k-th of a sequence; None continues a stream.
            options: Not used.

        Returns:
            The first observations [K, 10] and infos.

        Raises:
            ValueError: There are seeds for another number of students.
        """
        seeds = [seed + k for k in range(self.num_envs)] if isinstance(seed, int) else seed or [None] * self.num_envs
        if len(seeds) != self.num_envs:
            raise ValueError(f"there must be a seed for each of {self.num_envs} students. Got {len(seeds)}")
        for k, own in enumerate(seeds):
            if own is not None:
                self._rngs[k], _ = seeding.np_random(own)
        self._rounds, self._state = np.zeros(self.num_envs, np.int64), self.model.start(self.num_envs)
        self._noise = np.stack([self.streams.draw(rng) for rng in self._rngs])
        return self.model.observations(self._state), self._infos([(NO_WEIGHTS, Degradation())] * self.num_envs)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Let every student train for a round, or begin again where its run is over.

        Args:
            actions: [K, A]; see `fusion_env.surrogate.env.FusionDistillSurrogateEnv`.

        Returns:
            Observations [K, 10], rewards, terminations, truncations [K], infos.

        Raises:
            ValueError: There is not one action for each student, or one has the wrong shape or is not finite.
            gymnasium.error.ResetNeeded: No runs are going on.
        """
        if self._rounds is None:
            raise gymnasium.error.ResetNeeded("no runs are going on: call reset() before step()")
        if len(actions) != self.num_envs:
            raise ValueError(f"there must be an action for each of {self.num_envs} students. Got {len(actions)}")
        meant = [decode_action(action, logit_scale=self.model.config.logit_scale) for action in actions]
        begins, budget = self._rounds == self.model.config.rounds, self.model.config.rounds
        students, done = np.arange(self.num_envs), np.where(begins, 0, self._rounds)
        trained = self.model.step(self._state, np.asarray(actions), done, self._noise[students, done])
        self._state = np.where(begins[:, None, None], self.model.start(self.num_envs), trained)
        self._rounds = np.where(begins, 0, self._rounds + 1)
        for k in np.flatnonzero(begins):
            self._noise[k], meant[k] = self.streams.draw(self._rngs[k]), (NO_WEIGHTS, Degradation())
        rewards = np.where(begins, 0.0, self.model.gaps(self._state))
        never = np.zeros(self.num_envs, np.bool_)
        return self.model.observations(self._state), rewards, never, self._rounds == budget, self._infos(meant)

    def _infos(self, meant: Sequence[tuple[Any, Degradation]]) -> dict[str, Any]:
        infos: dict[str, Any] = {
            "round": self._rounds.copy(),  # type: ignore[union-attr]  # set by reset
            "loss_weights": np.array([tuple(vars(weights).values()) for weights, _ in meant]),
            "degradation": np.array([tuple(vars(degradation).values()) for _, degradation in meant], np.float64),
            "student": self.model.indicators(self._state),
            "teacher": np.tile(self.model.teacher, (self.num_envs, 1)),
            "gap": self.model.gaps(self._state),
            "diverged": np.zeros(self.num_envs, np.bool_),
        }
        return infos | {f"_{name}": np.ones(self.num_envs, np.bool_) for name in infos}
