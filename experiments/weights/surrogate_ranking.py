"""How well the surrogate ranks policies: their returns in it against those in the real environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

import agents
from experiments.benchmarking.uncertainty import Estimate
from experiments.running.directory import RunDirectory
from experiments.studies.reward_validity import interval, spearman
from fusion_env.surrogate.model import Surrogate

__all__ = ["Ranked", "agreement", "rank", "surrogate_returns"]

_RUNS = 64

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """A policy in both environments.

    Attributes:
        policy: Its name.
        real: Return of each real run.
        surrogate: Of each run of the surrogate.
    """

    policy: str
    real: Array
    surrogate: Array


def rank(model: Surrogate, folders: Sequence[Path], seed: int) -> list[Ranked]:
    """Let the agents that the recorded runs left act in the surrogate, frozen."""
    ranked = []
    for folder in folders:
        directory = RunDirectory(folder)
        config = directory.read_config()
        agent = agents.algorithm(config.agent).load(directory.agent)
        agent.set_random_seed(seed)
        returns = surrogate_returns(model, agent, np.random.default_rng(seed))
        ranked.append(Ranked(folder.name.removeprefix("held-out-"), _real_returns(directory), returns))
    return ranked


def _real_returns(directory: RunDirectory) -> Array:
    """Return what each run of the frozen agent earned; of an agent that does not learn every run counts."""
    config = directory.read_config()
    phase = "evaluate" if config.eval_runs else "learn"
    rewards = [float(row["reward"]) for row in directory.rounds.read() if row["phase"] == phase]
    return np.reshape(rewards, (-1, config.env.rounds)).sum(1)


def surrogate_returns(model: Surrogate, agent: BaseAlgorithm, rng: np.random.Generator, runs: int = _RUNS) -> Array:
    """Return what a frozen agent earns in each of some runs."""
    state, memory, returns = model.start(runs), None, np.zeros(runs)
    for done in range(model.config.rounds):
        starts = np.full(runs, done == 0)
        actions, memory = agent.predict(model.observations(state), memory, starts, deterministic=True)
        noise = rng.standard_normal((runs, len(model.stage0)))
        state = model.step(state, actions, np.full(runs, done), noise)
        returns += model.gaps(state)
    return returns


def agreement(first: Sequence[Array], second: Sequence[Array]) -> Estimate:
    """Return Spearman's correlation of the policies' mean returns, with a 95 % bootstrap interval over policies."""
    a, b = (np.array([returns.mean() for returns in side]) for side in (first, second))
    return Estimate(float(spearman(a, b)[0]), *interval(a, b, np.arange(len(a))))
