"""The page and the figure of the headroom study, made of its rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

import agents
from experiments.output import markdown_table, save_figure
from experiments.studies.trials import (
    CHOSEN_BY,
    CONSTANT,
    GUIDANCE_ONLY,
    JUDGED_BY,
    KINDS,
    METRICS,
    PLANNER,
    SCHEDULE,
    Row,
    Trials,
    ends,
    row_stratum,
)
from fusion_env.action import ACTION_NAMES, decode_action
from fusion_env.config import DistillConfig

__all__ = ["Difference", "best_found", "difference", "draw", "page"]

_FEW_STRATA = 5

Judged = Mapping[str, Sequence[Row]]
"""By kind a row for each stratum, in the same order."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences.

    Attributes:
        mean: The mean.
        error: Its standard error.
        half: Half of its 95 % interval by Student's t.
    """

    mean: float
    error: float
    half: float

    @property
    def in_errors(self) -> float:
        """The mean in standard errors; NaN where all differences are the same."""
        return self.mean / self.error if self.error else math.nan

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ± {self.error:.4f} [{self.mean - self.half:+.4f}, {self.mean + self.half:+.4f}]"


def difference(ours: Sequence[Row], theirs: Sequence[Row], column: str = JUDGED_BY) -> Difference:
    """Estimate how much higher a column is in the first rows, paired by seed, start and draw of the data.

    Raises:
        ValueError: The rows are of other strata, or of fewer than two.
    """
    strata = [row_stratum(row) for row in ours]
    if strata != [row_stratum(row) for row in theirs] or len(strata) < 2:
        raise ValueError(f"differences are paired by stratum, of which there must be two or more. Got {strata}")
    changes = np.array([mine[column] - other[column] for mine, other in zip(ours, theirs, strict=True)])
    error = float(changes.std(ddof=1) / math.sqrt(len(changes)))
    return Difference(float(changes.mean()), error, float(stats.t.ppf(0.975, len(changes) - 1)) * error)


def best_found(judged: Judged) -> str:
    """Return the kind of curriculum that is best on the reward split: what it is worth, the report split says."""
    return max((CONSTANT, SCHEDULE, PLANNER), key=lambda kind: _mean(judged[kind], CHOSEN_BY))


def page(title: str, judged: Judged, chosen: Sequence[Row], keep: int) -> str:
    """Write the tables for people.

    Args:
        title: What was run.
        judged: The rows that count.
        chosen: The rows that things were chosen by.
        keep: How many constants and schedules ran with every choice seed.
    """
    best = best_found(judged)
    worth = difference(judged[best], judged[GUIDANCE_ONLY])
    few = len(judged[best]) < _FEW_STRATA
    parts = [
        f"# What a curriculum can be worth\n\n{title}",
        *([f"**Fewer than {_FEW_STRATA} strata: too few to conclude from.**"] if few else []),
        f"**Headroom: {worth}, {worth.in_errors:.1f} standard errors**: {best} minus guidance only, E on the report "
        f"split, {len(judged[best])} pairs of the same seed, start and draw of the data.",
        _kinds_table(judged),
        "*Minus guidance only* are the mean, its standard error and the 95 % interval by Student's t of paired "
        "differences of E on the report split: of the student that a run delivers (its best by the reward split, which "
        "comes from the mean round *of round*; 0 is the start), and of its last round.",
        "## Is it worth to change the action?\n\n" + _changing_table(judged),
        "## How it was chosen\n\n" + _how_chosen(judged, chosen, keep),
        _constants_table(chosen),
        "## The delivered students on the report split\n\n" + _metrics_table(judged),
        "![choice against judgement; guidance weights over the rounds](headroom.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _mean(rows: Sequence[Row], column: str) -> float:
    return float(np.mean([row[column] for row in rows]))


def _kinds_table(judged: Judged) -> str:
    header = ["curriculum", "which", "gap of E, reward split", "gap of E, report split", "minus guidance only"]
    header += ["in standard errors", "last round's", "of round", "rounds", "rounds to plan", "CPU seconds", "diverged"]
    lines = []
    for kind, rows in judged.items():
        compared = ["", "", ""]
        if kind != GUIDANCE_ONLY:
            gain = difference(rows, judged[GUIDANCE_ONLY])
            last = difference(rows, judged[GUIDANCE_ONLY], "last_report_gap")
            compared = [str(gain), f"{gain.in_errors:+.1f}", str(last)]
        gaps = [f"{_mean(rows, column):.4f}" for column in (CHOSEN_BY, JUDGED_BY)]
        counts = [f"{_mean(rows, column):.0f}" for column in ("best_round", "rounds", "planning_rounds")]
        spent = [f"{_mean(rows, 'cpu_seconds'):.1f}", str(sum(row["diverged"] for row in rows))]
        name = "" if kind == GUIDANCE_ONLY else rows[0]["name"]
        lines.append([kind, name, *gaps, *compared, *counts, *spent])
    return markdown_table(header, lines, right_from=2)


def _changing_table(judged: Judged) -> str:
    lines = []
    for kind in (SCHEDULE, PLANNER):
        gain = difference(judged[kind], judged[CONSTANT])
        lines.append([f"{kind} minus constant", str(gain), f"{gain.in_errors:+.1f}"])
    return markdown_table(["", "E on the report split", "in standard errors"], lines, right_from=1)


def _how_chosen(judged: Judged, chosen: Sequence[Row], keep: int) -> str:
    seeds, others = ([row["seed"] for row in rows] for rows in (chosen, judged[CONSTANT]))
    first, every = seeds[0], ", ".join(map(str, sorted(set(seeds))))
    return (
        "Choice and judgement share no seed, no start and no draw of the data. Every constant and every schedule ran "
        f"once, with seed {first}, and the best {keep} of each with the seeds {every}; the best mean on the reward "
        f"split was taken. The runs above have the seeds {', '.join(map(str, others))} and no part in that. Which kind "
        f"is called the best ({best_found(judged)}) their reward split decides. The best of many single runs is partly "
        "luck: read no headroom from the left of the figure. The planner spends rounds on copies: it is a "
        "ceiling, and no rival at equal rounds. With `foresight=True` its copies meet the mini-batches and "
        "degradations that are to come, which no policy can know."
    )


def _constants_table(chosen: Sequence[Row]) -> str:
    frame = pd.DataFrame([row for row in chosen if row["kind"] == CONSTANT])
    groups = frame.groupby("name")
    table = groups[[CHOSEN_BY, JUDGED_BY]].mean()[groups.size() == frame["seed"].nunique()]
    table = table.sort_values(CHOSEN_BY, ascending=False)
    lines = [[name, f"{paid:.4f}", f"{told:.4f}"] for name, paid, told in table.itertuples()]
    return markdown_table(["constant, all choice seeds", "gap of E, reward split", "report split"], lines, right_from=1)


def _metrics_table(judged: Judged) -> str:
    lines = [
        [kind, *(f"{_mean(rows, f'best_report_{name}'):.4f}" for name in METRICS)] for kind, rows in judged.items()
    ]
    return markdown_table(["curriculum", *(name.upper() for name in METRICS)], lines, right_from=1)


def draw(judged: Judged, chosen: Sequence[Row], trials: Trials, config: DistillConfig, path: Path) -> None:
    """Draw choice against judgement of every run, and the guidance weights over the rounds.

    Args:
        judged: The rows that count.
        chosen: The rows that things were chosen by.
        trials: What the rows are of.
        config: The task.
        path: PNG file.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = dict(zip(KINDS, ("black", "tab:blue", "tab:orange", "tab:green"), strict=True))
    for kind, rows in judged.items():
        tried = [row for row in chosen if row["kind"] == kind]
        for points, face, word in ((tried, "none", "choice"), (rows, colours[kind], "judged")):
            gaps = [[row[column] for row in points] for column in (CHOSEN_BY, JUDGED_BY)]
            label = f"{kind}, {word}" if points else None
            left.scatter(*gaps, s=18, facecolors=face, edgecolors=colours[kind], label=label)
    left.set(xlabel="gap of E on the reward split", ylabel="gap of E on the report split")
    left.locator_params(axis="x", nbins=5)
    rounds = np.arange(1, config.rounds + 1)
    for kind in (CONSTANT, SCHEDULE):
        line = agents.ActionSchedule(*ends(judged[kind][0]), config.rounds).action(rounds - 1)
        right.plot(rounds, _weights(line, config), color=colours[kind], label=kind)
    for number, row in enumerate(judged[PLANNER]):
        taken = [[action[name] for name in ACTION_NAMES] for action in trials.planned(row)]
        label = None if number else "planner, each stratum"
        right.plot(rounds[: len(taken)], _weights(taken, config), color=colours[PLANNER], lw=0.7, label=label)
    right.set(xlabel="round", ylabel="guidance weight", ylim=(-0.03, 1.03))
    for axis in (left, right):
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    save_figure(figure, path)


def _weights(actions: Iterable[Any], config: DistillConfig) -> list[float]:
    return [decode_action(action, logit_scale=config.logit_scale)[0].guidance for action in actions]
