"""Fit the surrogate's model: from recorded runs to what a round does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.weights.surrogate_runs import Collected
from fusion_env.config import INDICATORS
from fusion_env.fingerprint import fingerprint
from fusion_env.surrogate.model import Surrogate, round_features
from fusion_env.updates import Schedule

__all__ = ["Recordings", "fit", "recordings_of"]

_PENALTY = 10.0
_FOLDS = 5
_SMALLEST_SCALE = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recordings:
    """Runs of one task.

    Attributes:
        task: The task, without a model: no tensors.
        states: Logarithms of the indicators relative to stage 0, [N, T + 1, 5].
        actions: [N, T, A].
    """

    task: Surrogate
    states: Array
    actions: Array

    def __len__(self) -> int:
        return len(self.states)

    @property
    def fingerprint(self) -> str:
        """The content."""
        return fingerprint("", {"states": torch.from_numpy(self.states), "actions": torch.from_numpy(self.actions)})


def recordings_of(collected: Sequence[Collected]) -> Recordings:
    """Take the whole runs of policies on one task."""
    first = collected[0].recorded
    config = first.config.env.replace(cache_dir=None)
    whole = [e for policy in collected for e in policy.episodes if len(e.rewards) == config.rounds]
    student = np.stack([_indicators(episode.infos, "student") for episode in whole])
    teacher = _indicators(whole[0].infos, "teacher")[0]
    return Recordings(
        task=Surrogate(config, student[0, 0], teacher, tensors={}, fingerprints=first.task.fingerprints),
        states=np.log(student / student[0, 0]),
        actions=np.stack([episode.actions for episode in whole]).astype(float),
    )


def _indicators(infos: dict[str, Any], whose: str) -> Array:
    return np.stack([infos[whose][name] for name in INDICATORS], axis=1)


def fit(recordings: Recordings, seed: int) -> tuple[Surrogate, Array]:
    """Fit a model to runs by ridge regression, in which a round counts by the learning rate's share.

    Args:
        recordings: The runs.
        seed: Of the folds.

    Returns:
        The model, whose noise is what models of other runs leave unexplained; and for each indicator the share of the
        variance of its changes that those explain, [5].
    """
    features, changes, weights = _rounds(recordings)
    folds = np.random.default_rng(seed).permutation(len(recordings)) % _FOLDS
    residuals = np.empty_like(changes)
    for fold in range(_FOLDS):
        here = np.repeat(folds == fold, recordings.task.config.rounds)
        weight, bias = _ridge(features[~here], changes[~here], weights[~here])
        residuals[here] = changes[here] - features[here] @ weight - bias
    centred = changes - _mean(changes, weights)
    explained = 1 - _mean(residuals**2, weights) / _mean(centred**2, weights)
    weight, bias = _ridge(features, changes, weights)
    noise = np.linalg.cholesky((weights * residuals).T @ residuals / weights.sum()).T
    low, high = recordings.states.min((0, 1)), recordings.states.max((0, 1))
    tensors = {"weight": weight, "bias": bias, "noise": noise, "low": low, "high": high}
    return replace(recordings.task, tensors=tensors), explained


def _rounds(recordings: Recordings) -> tuple[Array, Array, Array]:
    """Return of every round the features [R, F], the change at the full learning rate [R, 5], and a weight [R, 1]."""
    config, states = recordings.task.config, recordings.states
    before = np.concatenate([states[:, :1], states[:, :-2]], axis=1)
    count, budget = len(states), config.rounds
    features = round_features(
        np.stack([states[:, :-1], before], axis=2).reshape(-1, 2, len(INDICATORS)),
        recordings.actions.reshape(-1, recordings.actions.shape[-1]),
        np.tile(np.arange(budget), count),
        budget=budget,
        logit_scale=config.logit_scale,
    )
    schedule = Schedule(config.schedule, budget)
    shares = np.tile([schedule.factor(done) for done in range(budget)], count)[:, None]
    return features, np.diff(states, axis=1).reshape(-1, len(INDICATORS)) / shares, shares**2


def _ridge(features: Array, changes: Array, weights: Array) -> tuple[Array, Array]:
    """Return weight [F, 5] and bias [5] of the least weighted squares, with a penalty on features of one scale."""
    mean, scale = features.mean(0), features.std(0) + _SMALLEST_SCALE
    inputs, centre = (features - mean) / scale, _mean(changes, weights)
    inputs_mean = _mean(inputs, weights)
    centred = inputs - inputs_mean
    squares = (weights * centred).T @ centred + _PENALTY * np.eye(features.shape[1])
    weight = np.linalg.solve(squares, (weights * centred).T @ (changes - centre)) / scale[:, None]
    return weight, centre - (mean + inputs_mean * scale) @ weight


def _mean(values: Array, weights: Array) -> Array:
    return (weights * values).sum(0) / weights.sum()
