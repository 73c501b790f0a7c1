"""Fit the surrogate's model: from recorded runs to what a round does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.running.episodes import Episode, recorded_episodes
from experiments.running.recorded import Recorded, open_recorded
from experiments.weights.training import train_from_scratch
from fusion_env.config import INDICATORS
from fusion_env.data import Progress
from fusion_env.fingerprint import fingerprint
from fusion_env.surrogate.model import Surrogate, round_features
from fusion_env.updates import Schedule

__all__ = ["Recordings", "fit", "read_recordings"]

_HIDDEN, _STEPS, _BATCH, _LEARNING_RATE = 32, 800, 256, 0.003
_FOLDS = 5

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

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Recordings":
        return replace(self, states=self.states[chosen], actions=self.actions[chosen])

    def __len__(self) -> int:
        return len(self.states)

    @property
    def fingerprint(self) -> str:
        """The content."""
        return fingerprint("", {"states": torch.from_numpy(self.states), "actions": torch.from_numpy(self.actions)})


def read_recordings(folders: Sequence[Path], progress: Progress) -> Recordings:
    """Read the whole runs in the directories of recorded runs of one task."""
    read = [open_recorded(folder, progress) for folder in folders]
    episodes = [episode for recorded in read for episode in recorded_episodes(recorded, progress)]
    rounds = read[0].config.env.rounds
    indicators = np.stack([_indicators(episode, "student") for episode in episodes if len(episode.rewards) == rounds])
    return Recordings(
        task=_task(read[0], stage0=indicators[0, 0], teacher=_indicators(episodes[0], "teacher")[0]),
        states=np.log(indicators / indicators[0, 0]),
        actions=np.stack([episode.actions for episode in episodes if len(episode.rewards) == rounds]).astype(float),
    )


def _task(recorded: Recorded, *, stage0: Array, teacher: Array) -> Surrogate:
    config = recorded.config.env.replace(cache_dir=None)
    return Surrogate(config, stage0, teacher, tensors={}, fingerprints=recorded.task.fingerprints)


def _indicators(episode: Episode, whose: str) -> Array:
    return np.stack([episode.infos[whose][name] for name in INDICATORS], axis=1)


def _rounds(recordings: Recordings) -> tuple[Array, Array, Array]:
    """Return of every round the features [R, F], the change at the full learning rate [R, 5], and the rate's share."""
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
    shares = np.tile([schedule.factor(done) for done in range(budget)], count)
    changes = np.diff(states, axis=1).reshape(-1, len(INDICATORS))
    return features, changes / shares[:, None], shares


def fit(recordings: Recordings, seed: int) -> tuple[Surrogate, Array]:
    """Fit a model to runs.

    Args:
        recordings: The runs.
        seed: Of the first weights, the batches and the folds.

    Returns:
        The model, whose noise is what models of other runs leave unexplained; and for each indicator the share of the
        variance of its changes that those explain, [5].
    """
    residuals, weights = _residuals(recordings, seed)
    _, changes, _ = _rounds(recordings)
    centred = changes - (weights * changes).sum(0) / weights.sum()
    explained = 1 - (weights * residuals**2).sum(0) / (weights * centred**2).sum(0)
    noise = np.linalg.cholesky((weights * residuals).T @ residuals / weights.sum()).T
    model = _fit_mean(recordings, seed)
    return replace(model, tensors={**model.tensors, "noise": noise}), explained


def _residuals(recordings: Recordings, seed: int) -> tuple[Array, Array]:
    """Return what models of four fifths of the runs leave of the changes in the others, [R, 5], and weights [R, 1]."""
    features, changes, shares = _rounds(recordings)
    folds = np.random.default_rng(seed).permutation(len(recordings)) % _FOLDS
    residuals = np.empty_like(changes)
    for fold in range(_FOLDS):
        here = np.repeat(folds == fold, recordings.task.config.rounds)
        residuals[here] = changes[here] - _fit_mean(recordings[folds != fold], seed).mean_change(features[here])
    return residuals, shares[:, None] ** 2


def _fit_mean(recordings: Recordings, seed: int) -> Surrogate:
    """Fit the network, without noise; the squares of a round count as its change does, by the rate's share."""
    features, changes, shares = _rounds(recordings)
    mean, scale = features.mean(0), features.std(0) + 1e-6
    unit = changes.std(0)
    inputs, targets, weights = (
        torch.from_numpy(array).float() for array in ((features - mean) / scale, changes / unit, shares[:, None] ** 2)
    )
    generator = torch.Generator().manual_seed(seed)

    def loss(network: nn.Module) -> Tensor:
        chosen = torch.randint(len(inputs), (_BATCH,), generator=generator)
        return (weights[chosen] * (network(inputs[chosen]) - targets[chosen]).square()).mean()

    build = partial(_network, features.shape[1])
    network = train_from_scratch(build, loss, _LEARNING_RATE, _STEPS, seed, "surrogate")
    tensors = {
        "mean": mean,
        "scale": scale,
        "low": recordings.states.min((0, 1)),
        "high": recordings.states.max((0, 1)),
    }
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(layers):
        last = unit if layer is layers[-1] else 1.0
        tensors[f"weight{number}"] = layer.weight.double().numpy().T * last
        tensors[f"bias{number}"] = layer.bias.double().numpy() * last
    return replace(recordings.task, tensors={**tensors, "noise": np.zeros((len(INDICATORS), len(INDICATORS)))})


def _network(inputs: int) -> nn.Sequential:
    sizes = [inputs, _HIDDEN, _HIDDEN, len(INDICATORS)]
    layers = [part for pair in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(*pair), nn.Tanh())]
    return nn.Sequential(*layers[:-1])
