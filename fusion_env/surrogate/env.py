"""The surrogate environment: the interface of the real one, with a fitted model in place of the training."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from fusion_env.action import ACTION_SIZE, LossWeights, decode_action
from fusion_env.config import INDICATORS
from fusion_env.degradation import Degradation
from fusion_env.info import NamedValues
from fusion_env.observation import observation_size
from fusion_env.surrogate.model import NoiseStreams, load_surrogate

__all__ = ["ACTION_SPACE", "NO_WEIGHTS", "OBSERVATION_SPACE", "FusionDistillSurrogateEnv"]

ACTION_SPACE = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
OBSERVATION_SPACE = spaces.Box(-10.0, 10.0, (observation_size("vector"),), np.float32)
NO_WEIGHTS = LossWeights(np.nan, np.nan)


class FusionDistillSurrogateEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Imitate `fusion_env/FusionDistillTiny-v0` with the embedded start and teacher, thousands of steps a second.

    ## Description

    A small model, fitted to recorded runs, says how a round changes the student's indicators. It is for debugging and
    tuning algorithms; no result about curricula can come from it. Its card, fusion_env/assets/surrogate.md, says how
    well it ranks policies, and what it must not be used for.

    ## Action space

    That of `fusion_env.env.FusionDistillEnv`. Values outside are clipped; NaN or infinity is a `ValueError`.

    ## Observation space

    That of `fusion_env.env.FusionDistillEnv` with ``observation="vector"``.

    ## Rewards

    E(student) - E(teacher), of the indicators that the observation shows: ``score_metrics=("vif", "iqa")``.

    ## Starting state

    The stage-0 student, always the same.

    ## Episode end

    Truncation after the rounds of a run, 10 as in `tiny`. The model never diverges.

    ## Info

    The keys of the real environment that the model knows, after `reset` and after every step: `round`,
    `loss_weights`, `degradation`, `student`, `teacher`, `gap`, `diverged` (always False). There are no losses, norms or
    reports.

    ## Arguments

    Args:
        render_mode: None; there are no images.
        noise: Factor on the noise of the model, whose covariance is that of the residuals; 0 for none.

    Raises:
        ConfigError: The factor is negative or not finite.

    ## Version history

    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's declaration)

    def __init__(self, render_mode: None = None, *, noise: float = 1.0) -> None:
        self.model = load_surrogate()
        self.streams = NoiseStreams(self.model, noise)
        self.render_mode = render_mode
        self.action_space, self.observation_space = ACTION_SPACE, OBSERVATION_SPACE
        self._rounds: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start a run from the stage-0 student.

        Args:
            seed: Seed of the run's noise; None continues the environment's own stream.
            options: Not used.

        Returns:
            The first observation and info.
        """
        super().reset(seed=seed)
        self._rounds, self._state, self._noise = 0, self.model.start(1), self.streams.draw(self.np_random)
        return self.model.observations(self._state)[0], self._info(NO_WEIGHTS, Degradation())

    def step(self, action: ArrayLike) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Let the student of the model train for a round.

        Args:
            action: As for `fusion_env.env.FusionDistillEnv`.

        Returns:
            Observation, reward, terminated, truncated, info.

        Raises:
            ValueError: The action has the wrong shape or is not finite.
            gymnasium.error.ResetNeeded: No run is going on.
        """
        weights, degradation = decode_action(action, logit_scale=self.model.config.logit_scale)
        budget = self.model.config.rounds
        if self._rounds is None or self._rounds == budget:
            raise gymnasium.error.ResetNeeded("no run is going on: call reset() before step()")
        taken, done, noise = np.asarray(action)[None], np.array([self._rounds]), self._noise[None, self._rounds]
        self._state = self.model.step(self._state, taken, done, noise)
        self._rounds += 1
        info = self._info(weights, degradation)
        return self.model.observations(self._state)[0], float(info["gap"]), False, self._rounds == budget, info

    def _info(self, weights: LossWeights, degradation: Degradation) -> dict[str, Any]:
        return {
            "round": np.int64(self._rounds or 0),
            "loss_weights": NamedValues(vars(weights)),
            "degradation": NamedValues(vars(degradation)),
            "student": _named(self.model.indicators(self._state)[0]),
            "teacher": _named(self.model.teacher),
            "gap": self.model.gaps(self._state)[0],
            "diverged": np.array(False),
        }


def _named(indicators: NDArray[np.float64]) -> NamedValues:
    return NamedValues(dict(zip(INDICATORS, indicators, strict=True)))
