"""How well the surrogate ranks policies: their returns in it against those in the real environment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from experiments.studies.reward_validity import interval, spearman
from experiments.weights.surrogate_runs import Collected
from fusion_env.surrogate.model import Surrogate

__all__ = ["Ranked", "agreement", "ordered_pairs", "rank", "surrogate_returns"]

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


def rank(model: Surrogate, collected: Sequence[Collected], seed: int) -> list[Ranked]:
    """Let the policies act in the surrogate, frozen."""
    ranked = []
    for policy in collected:
        agent = policy.agent()
        agent.set_random_seed(seed)
        # Of a policy that does not learn every run counts.
        phase = "evaluate" if policy.recorded.config.eval_runs else "learn"
        real = np.array([episode.rewards.sum() for episode in policy.episodes if episode.phase == phase])
        ranked.append(Ranked(policy.name, real, surrogate_returns(model, agent, np.random.default_rng(seed))))
    return ranked


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


def agreement(first: Sequence[Array], second: Sequence[Array]) -> tuple[float, float, float]:
    """Return Spearman's correlation of the policies' mean returns, and its 95 % bootstrap interval over policies."""
    a, b = (np.array([returns.mean() for returns in side]) for side in (first, second))
    return float(spearman(a, b)[0]), *interval(a, b, np.arange(len(a)))


def ordered_pairs(first: Sequence[Array], second: Sequence[Array], apart: float) -> tuple[int, int, int, int]:
    """Count the pairs of policies that both sides order alike by their mean returns.

    Args:
        first: Returns of each policy.
        second: Returns of each policy in the other environment.
        apart: What their means on the first side must differ by.

    Returns:
        Pairs that are so far apart and ordered alike, all that are so far apart; the same of the closer ones.
    """
    a, b = (np.array([returns.mean() for returns in side]) for side in (first, second))
    upper = np.triu_indices(len(a), 1)
    differences, others = (np.subtract.outer(means, means)[upper] for means in (a, b))
    alike, far = differences * others > 0, abs(differences) > apart
    return int((alike & far).sum()), int(far.sum()), int((alike & ~far).sum()), int((~far).sum())
