"""The page and the figure of the study of late effects, made of its rows."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.output import markdown_table, save_figure
from experiments.studies.reward_validity import spearman
from experiments.studies.trials import Row
from fusion_env.action import STRENGTHS

__all__ = ["Correlation", "Held", "correlation", "draw", "page"]

_RESAMPLES = 2000
# As in the study of the reward's validity: mostly imitation, so that the worst actions are left out by what they are,
# not by how they end.
_IMITATING = 0.5
_FACTS = {"guidance_weight": "guidance weight", **{one.name: f"strength of {one.name}" for one in STRENGTHS}}

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95 % interval; all NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if np.isnan(self.value) else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Held:
    """What actions were paid that were held for whole runs.

    Attributes:
        actions: A row for each action, with its name as index and the columns of `_FACTS`.
        paid: E(student) - E(teacher) on the reward split [draws, actions, rounds].
    """

    actions: pd.DataFrame
    paid: Table

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Held":
        """Arrange rows, all actions of which have all rounds of all draws."""
        frame = pd.DataFrame(rows)
        table = frame.pivot(index=["seed", "name"], columns="round", values="reward_gap")
        actions = frame.groupby("name")[list(_FACTS)].first()
        return cls(actions, table.to_numpy().reshape(-1, len(actions), table.shape[1]))

    def imitating(self) -> "Held":
        """Return the actions that mostly imitate."""
        kept = self.actions["guidance_weight"].to_numpy() >= _IMITATING
        return Held(self.actions[kept], self.paid[:, kept])

    @property
    def rounds(self) -> int:
        """Rounds of a run."""
        return self.paid.shape[2]

    @property
    def final(self) -> Table:
        """What the last round is paid [draws, actions]."""
        return self.paid[..., -1]

    def first(self, rounds: int) -> Table:
        """What the first rounds are paid, on average [draws, actions]."""
        return self.paid[..., :rounds].mean(-1)

    def between_draws(self, number: int) -> Correlation:
        """Correlate what a round is paid in one draw with what it is paid in another one."""
        one, other = zip(*itertools.combinations(range(len(self.paid)), 2), strict=True)
        return correlation(self.paid[list(one), :, number - 1], self.paid[list(other), :, number - 1])

    def behind(self, number: int) -> float:
        """Return how far the leader of a round ends behind the best, averaged over the draws."""
        leaders = self.paid[..., number - 1].argmax(1)
        return float((self.final.max(1) - self.final[np.arange(len(leaders)), leaders]).mean())


def correlation(signal: Table, outcome: Table) -> Correlation:
    """Return the mean over draws of Spearman's rank correlation over actions.

    Args:
        signal: One value for each draw and action [draws, actions].
        outcome: Another one.

    Returns:
        The mean, with a percentile bootstrap interval over actions, whose runs are drawn together; NaN where a side is
        constant in a draw.
    """
    count = signal.shape[1]
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    samples = np.vstack([np.ones(count), drawn])
    value, *resampled = np.mean([spearman(*sides, samples) for sides in zip(signal, outcome, strict=True)], axis=0)
    if np.isnan(value):
        return Correlation(np.nan, np.nan, np.nan)
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Correlation(float(value), float(low), float(high))


def page(title: str, held: Held) -> str:
    """Write the tables for people.

    Args:
        title: What was run.
        held: What was paid.
    """
    first, last = correlation(held.paid[..., 0], held.final), held.between_draws(held.rounds)
    parts = [
        f"# How soon does an action show?\n\n{title}",
        f"**Rank correlation of the first round's reward with the last one's: {first}**; of the last one's with "
        f"that of another draw: {last}.",
        "Everything is E(student) - E(teacher) on the reward split, of the student after a round: the reward. The "
        "seeds are those for choosing, so nothing here is told or chosen by the report split. Numbers are Spearman's "
        "rank correlations over actions, averaged over draws, with 95 % bootstrap intervals over actions, all draws of "
        "an action together: they hold for other actions, not for other draws. Against itself the last round has 1.",
    ]
    groups = {"All actions": held, f"Guidance weight of {_IMITATING} or more": held.imitating()}
    for name, group in groups.items():
        if len(group.actions) >= 4:
            parts += [f"## {name}: {len(group.actions)} actions", _rounds_table(group), _facts_table(group)]
    parts += [
        "*In another draw*: the same round's reward; what is not the action's doing lowers it. *The leader ends behind "
        "by*: how much less the action that leads after this round has at the end than the best, averaged over the "
        "draws. Most actions lack a given degradation, and these ties keep its correlations low.",
        "## The actions\n\n" + _actions_table(held),
        "![rewards over the rounds; rank correlation with the last round](late_effects.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _shown(rounds: int) -> list[int]:
    return sorted({number for number in (1, 2, 5, 10, rounds // 2, rounds) if 1 <= number <= rounds})


def _rounds_table(held: Held) -> str:
    header = ["after round", "its reward with the last", "mean reward so far with the last"]
    header += ["its reward in another draw", "the leader ends behind by"]
    lines = []
    for number in _shown(held.rounds):
        signals = (held.paid[..., number - 1], held.first(number))
        found = [*(correlation(signal, held.final) for signal in signals), held.between_draws(number)]
        lines.append([number, *map(str, found), f"{held.behind(number):.4f}"])
    return markdown_table(header, lines, right_from=0)


def _facts_table(held: Held) -> str:
    rounds = sorted({1, min(5, held.rounds), held.rounds})
    lines = []
    for column, name in _FACTS.items():
        fact = np.broadcast_to(held.actions[column], held.final.shape)
        found = [correlation(fact, held.paid[..., number - 1]) for number in rounds]
        lines.append([name, *map(str, found)])
    return markdown_table(["fact", *(f"with the reward of round {number}" for number in rounds)], lines, right_from=1)


def _actions_table(held: Held) -> str:
    rounds, means = _shown(held.rounds), held.paid.mean(0)
    lines = [
        [held.actions.index[place], *(f"{means[place, number - 1]:.4f}" for number in rounds)]
        for place in np.argsort(-means[:, -1], kind="stable")
    ]
    header = ["action, mean over draws", *(f"reward of round {number}" for number in rounds)]
    return markdown_table(header, lines, right_from=1)


def draw(held: Held, path: Path) -> None:
    """Draw what the actions are paid over the rounds, and how that ranks them against the last round.

    Args:
        held: What was paid.
        path: PNG file.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rounds, means = range(1, held.rounds + 1), held.paid.mean(0)
    left.plot(rounds, means.T, color="0.8", lw=0.6)
    order = np.argsort(-means[:, -1], kind="stable")
    for place in order[np.linspace(0, len(order) - 1, min(5, len(order))).round().astype(int)]:
        left.plot(rounds, means[place], label=held.actions.index[place])
    left.set(xlabel="round", ylabel="gap of E, reward split, mean over draws")
    groups = {"all actions": held, f"guidance weight >= {_IMITATING}": held.imitating()}
    for colour, (name, group) in enumerate(groups.items()):
        if len(group.actions) >= 4:
            _draw_correlations(right, group, name, f"C{colour}")
    right.set(xlabel="round", ylabel="rank correlation with the last round", ylim=(None, 1.03))
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    save_figure(figure, path)


def _draw_correlations(axis: Axes, held: Held, name: str, colour: str) -> None:
    rounds = range(1, held.rounds + 1)
    found = [correlation(held.paid[..., number - 1], held.final) for number in rounds]
    so_far = [correlation(held.first(number), held.final).value for number in rounds]
    axis.plot(rounds, [one.value for one in found], color=colour, label=f"{name}, reward of the round")
    axis.fill_between(rounds, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.15, lw=0)
    axis.plot(rounds, so_far, color=colour, ls="--", label=f"{name}, mean so far")
