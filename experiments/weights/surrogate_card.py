"""The card of the surrogate: what it was made of, what it explains, how it ranks policies, what it is not for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.output import markdown_table
from experiments.weights.surrogate_fit import Recordings
from experiments.weights.surrogate_ranking import Ranked, agreement, ordered_pairs
from experiments.weights.surrogate_runs import SETTINGS
from fusion_env.config import INDICATORS
from fusion_env.fingerprint import fingerprint
from student.weights import load_state

__all__ = ["card"]


def card(
    recordings: Recordings,
    path: Path,
    explained: NDArray[np.float64],
    ranked: Sequence[Ranked],
    *,
    seed: int,
    seconds: float,
) -> str:
    """Write the card.

    Args:
        recordings: What was fitted to.
        path: The model's file.
        explained: Share of the variance that it explains, for each indicator.
        ranked: Policies in both environments.
        seed: Of the fit.
        seconds: CPU time of fit and ranking.
    """
    state, task = load_state(path), recordings.task
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items() if name != "threads")
    content = "\n".join(f"  - {name} `{value}`" for name, value in task.fingerprints.items())
    return f"""# Surrogate environment

`fusion_env/FusionDistillSurrogate-v0` imitates the preset `tiny` with {settings}.
A linear model (ridge regression) of the round, the indicators, their last change, the loss weights and the strengths
says how a round changes the logarithms of the student's five indicators; Gaussian noise has the covariance of what it
leaves unexplained. Reward and observation follow from the indicators as in the real environment.

- Model: `{path.name}`, {sum(tensor.numel() for tensor in state.values())} numbers, {path.stat().st_size} bytes,
  fingerprint `{fingerprint("", state)}`.
- Data: {len(recordings)} runs of {task.config.rounds} rounds, fingerprint `{recordings.fingerprint}`:
  lines between random actions, random actions, and learning agents; see experiments/weights/surrogate_runs.py.
- Real environment, by content:
{content}

  With another quality score, teacher or data the real rewards are others: run the command again.
- Command: `python experiments/weights/train_surrogate.py --runs runs/surrogate --out fusion_env/assets --seed {seed}`
  Fit and ranking took {seconds:.1f} s on one core, after the runs.
- Licence: Apache-2.0, as the package.

## What it explains

Share of the variance of the changes in a round, by models of other runs:

{markdown_table([name.upper() for name in INDICATORS], [explained.tolist()], decimals=2)}

## How it ranks policies

{_ranking(ranked)}

## What it must not be used for

- To say anything about curricula, students or fusion: it knows five numbers of one tiny task, and no image.
- To report a return, or to choose between policies whose returns are close.
- For other presets, settings, teachers, data or numbers of rounds.
- To study divergence, losses or reports: it has none.

It is for seeing that an algorithm runs, learns and is reproducible, and for discarding settings with which it learns
nothing.
"""


def _ranking(ranked: Sequence[Ranked]) -> str:
    real, surrogate = [policy.real for policy in ranked], [policy.surrogate for policy in ranked]
    halves = _estimate([returns[::2] for returns in real], [returns[1::2] for returns in real])
    within = [np.mean([returns.std(ddof=1) for returns in side]) for side in (real, surrogate)]
    between = [np.std([returns.mean() for returns in side], ddof=1) for side in (real, surrogate)]
    right, far, right_close, close = ordered_pairs(real, surrogate, apart=within[0])
    header = ("policy", "real: mean", "std", "runs", "surrogate: mean", "std")
    rows = [
        [policy.policy.removeprefix("held-out-"), *_summary(policy.real), len(policy.real), *_summary(policy.surrogate)]
        for policy in sorted(ranked, key=lambda policy: policy.real.mean())
    ]
    return f"""Returns of {len(ranked)} policies that are not in the data. Spearman's correlation of their mean
returns in the two environments is **{_estimate(real, surrogate)}** (95 % bootstrap interval over policies).
Two halves of the real runs rank the same policies with {halves}.

Of the {far} pairs of policies whose real means differ by more than the standard deviation between runs of one policy
({within[0]:.2f}) it orders {right} as the real environment does; of the {close} closer pairs, about which
{len(real[0])} real runs say little, {right_close}.

| standard deviation of returns | real | surrogate |
|---|---|---|
| between the policies' means | {between[0]:.2f} | {between[1]:.2f} |
| between the runs of a policy | {within[0]:.2f} | {within[1]:.2f} |

{markdown_table(header, rows, decimals=2)}"""


def _estimate(first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]]) -> str:
    value, low, high = agreement(first, second)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _summary(returns: NDArray[np.float64]) -> tuple[float, float]:
    return float(returns.mean()), float(returns.std(ddof=1))
