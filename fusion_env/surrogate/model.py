"""The fitted model: what a round makes of a student's indicators. Plain NumPy, many students at once."""

import functools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion_env.action import LOGITS
from fusion_env.config import INDICATORS, DistillConfig
from fusion_env.errors import ConfigError
from fusion_env.packaged import packaged
from fusion_env.updates import Schedule
from student.weights import WeightsError, load_metadata, load_state

__all__ = ["NoiseStreams", "Surrogate", "load_surrogate", "round_features"]

Array = NDArray[np.float64]


def round_features(
    state: Array, actions: Array, rounds: NDArray[np.int64], *, budget: int, logit_scale: float
) -> Array:
    """Describe the rounds to come, for the model.

    Args:
        state: Logarithms of the students' indicators relative to stage 0, now and a round before, [K, 2, 5].
        actions: As the environment takes them, [K, A].
        rounds: Rounds that are done, [K].
        budget: Rounds of a whole run.
        logit_scale: As for `fusion_env.action.decode_action`.

    Returns:
        Which round it is (`budget` numbers, one of them 1); indicators; their last change; guidance weight and its
        square; strength of every degradation and indicators, both times the self-learning weight: [K, F].
    """
    clipped = np.clip(actions, -1.0, 1.0)
    guidance = 1.0 / (1.0 + np.exp(logit_scale * (clipped[:, 1:2] - clipped[:, :1])))
    strengths = (clipped[:, len(LOGITS) :] + 1.0) / 2.0
    now, before = state[:, 0], state[:, 1]
    parts = [np.eye(budget)[rounds], now, now - before, guidance, guidance**2]
    return np.concatenate([*parts, (1.0 - guidance) * strengths, (1.0 - guidance) * now], axis=1)


@dataclass(frozen=True)
class Surrogate:
    """A model of the rounds of one task.

    The logarithm of each indicator, relative to the stage-0 student's, changes by a linear function of
    `round_features` and Gaussian noise, both times the learning rate's share of its top.

    Attributes:
        config: The task.
        stage0: Indicators of the stage-0 student, in the order of `INDICATORS`.
        teacher: Those of the teacher.
        tensors: ``weight`` [F, 5] and ``bias`` [5] of the function; ``noise``, a factor [5, 5] of the covariance of
            what it does not explain; ``low`` and ``high`` [5], the range of each logarithm in the data, which no run
            leaves.
        fingerprints: Content of the data and networks of the task.
    """

    config: DistillConfig
    stage0: Array
    teacher: Array
    tensors: Mapping[str, Array]
    fingerprints: Mapping[str, str]

    def start(self, count: int) -> Array:
        """Return the state of so many stage-0 students, [count, 2, 5]; see `round_features`."""
        return np.zeros((count, 2, len(INDICATORS)))

    def step(self, state: Array, actions: Array, rounds: NDArray[np.int64], noise: Array) -> Array:
        """Let every student train for a round.

        Args:
            state: Before it, [K, 2, 5].
            actions: [K, A]; values outside -1..1 are clipped.
            rounds: Rounds that are done, [K].
            noise: Standard normal numbers, [K, 5]; zeros for the mean.

        Returns:
            The state after it.
        """
        config = self.config
        features = round_features(state, actions, rounds, budget=config.rounds, logit_scale=config.logit_scale)
        schedule = Schedule(config.schedule, config.rounds)
        shares = np.array([schedule.factor(done) for done in range(config.rounds)])[rounds]
        change = features @ self.tensors["weight"] + self.tensors["bias"] + noise @ self.tensors["noise"]
        now = np.clip(state[:, 0] + shares[:, None] * change, self.tensors["low"], self.tensors["high"])
        return np.stack([now, state[:, 0]], axis=1)

    def indicators(self, state: Array) -> Array:
        """Return the students' indicators, [K, 5]."""
        return self.stage0 * np.exp(state[:, 0])

    def observations(self, state: Array) -> NDArray[np.float32]:
        """Return what an agent sees: `performance` and `gap` of `fusion_env.observation`, [K, 10]."""
        own = self.indicators(state)
        parts = [own / self.stage0 - 1.0, own / self.teacher - 1.0]
        return np.clip(self.config.obs_scale * np.concatenate(parts, axis=1), -10, 10).astype(np.float32)

    def gaps(self, state: Array) -> Array:
        """Return E(student) - E(teacher), [K]."""
        scored = [list(INDICATORS).index(name) for name in self.config.score_metrics]
        return (self.indicators(state) / self.teacher - 1.0)[:, scored].mean(axis=1)


class NoiseStreams:
    """Draws the noise of runs.

    Args:
        model: The model.
        factor: On its noise; 0 for none.

    Raises:
        ConfigError: The factor is negative or not finite.
    """

    def __init__(self, model: Surrogate, factor: float) -> None:
        if not (math.isfinite(factor) and factor >= 0):
            raise ConfigError(f"noise must be a number of 0 or more. Got {factor}")
        self._shape, self._factor = (model.config.rounds, len(INDICATORS)), factor

    def draw(self, rng: np.random.Generator) -> Array:
        """Return what `Surrogate.step` takes for each round of a run, [rounds, 5]."""
        return self._factor * rng.standard_normal(self._shape)


def load_surrogate(path: str | os.PathLike[str] | None = None) -> Surrogate:
    """Read a model from a file that `experiments/weights/train_surrogate.py` wrote.

    Args:
        path: The file; None for the package's own, which is read once.

    Raises:
        MissingRequirementsError: The package was installed without its assets.
        WeightsError: The file cannot be read, or holds something else.
    """
    return _read(Path(path)) if path is not None else _embedded()


@functools.cache
def _embedded() -> Surrogate:
    with packaged("surrogate.safetensors") as path:
        return _read(path)


def _read(path: Path) -> Surrogate:
    tensors = {name: tensor.double().numpy() for name, tensor in load_state(path).items()}
    about = load_metadata(path)
    if "task" not in about:
        raise WeightsError(f"{path} is no model of a surrogate: experiments/weights/train_surrogate.py writes one.")
    task = json.loads(about["task"])
    return Surrogate(
        config=DistillConfig.from_dict(task["config"]),
        stage0=tensors.pop("stage0"),
        teacher=tensors.pop("teacher"),
        tensors=tensors,
        fingerprints=task["fingerprints"],
    )
