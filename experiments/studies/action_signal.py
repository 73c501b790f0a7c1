"""Measure how much of what happens next is the action's doing.

From snapshots of one run, the environment is forked once for every combination of some actions and some random streams;
each fork holds its action for a few rounds. A two-way analysis of variance splits the variance of the returns into the
action's share, that of the streams, and the rest. An agent can only learn from the action's share. How much of it is
the doing of the two loss weights alone is said beside it.

Most of the variance over all actions is that between good and bad ones, which an agent leaves behind soon. So the same
is done a second time *near the optimum*: with actions from a small box around the best one of the snapshot, and with
other streams, since the best one is partly luck.

python experiments/studies/action_signal.py --preset bench
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from experiments.command_line import (
    add_preset,
    add_settings,
    exit_on_error,
    given_settings,
    make_parser,
    progress_bar,
    start_label,
)
from experiments.output import markdown_table, save_figure, write_csv, write_text
from experiments.running.policies import policy_setup
from fusion_env import tasks
from fusion_env.action import ACTION_NAMES, ACTION_SIZE
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import build_task

__all__ = ["Shares", "action_signal", "explained_by_weight", "main", "variance_shares"]

FRACTIONS = (0.0, 0.25, 0.5, 0.75)
REWARDS = ("gap", "gap_delta")
REGIONS = ("all", "near")
"""Actions from the whole box, and from a small one around the best of them by the first of `REWARDS`."""
NEAR = 0.25
"""Half the side of the small box; the whole one is 2 wide."""


@dataclass(frozen=True)
class Shares:
    """Shares of the variance of returns (omega squared, which corrects the bias of plain ratios); they sum to 1.

    Attributes:
        action: Explained by the action.
        stream: Explained by the random stream (data order, degradation draws), whatever the action.
        rest: Neither: how differently the streams treat each action.
        deviation: Standard deviation of all returns.
    """

    action: float
    stream: float
    rest: float
    deviation: float


def variance_shares(returns: NDArray[np.float64]) -> Shares:
    """Split the variance of returns [actions, streams].

    Source: Hays, "Statistics", 1963: omega squared of a two-way layout with one observation in each cell. An estimate
    below 0 is reported as 0.
    """
    count_a, count_s = returns.shape
    mean = returns.mean()
    sum_a = count_s * ((returns.mean(axis=1) - mean) ** 2).sum()
    sum_s = count_a * ((returns.mean(axis=0) - mean) ** 2).sum()
    total = ((returns - mean) ** 2).sum()
    residual = (total - sum_a - sum_s) / ((count_a - 1) * (count_s - 1))
    if total == 0:
        return Shares(0.0, 0.0, 0.0, 0.0)
    action = max(0.0, (sum_a - (count_a - 1) * residual) / (total + residual))
    stream = max(0.0, (sum_s - (count_s - 1) * residual) / (total + residual))
    return Shares(action, stream, max(0.0, 1 - action - stream), float(returns.std()))


def explained_by_weight(returns: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return which share of the variance between actions a parabola in the guidance weight explains.

    Adjusted R squared, 0 at least.

    Args:
        returns: Returns [actions, streams].
        weights: Guidance weight of each action, 0..1; at least four different ones.
    """
    means = returns.mean(axis=1)
    total = ((means - means.mean()) ** 2).sum()
    if total == 0:
        return 0.0
    left = ((means - np.polyval(np.polyfit(weights, means, 2), weights)) ** 2).sum()
    return max(0.0, 1 - (left / (len(means) - 3)) / (total / (len(means) - 1)))


def action_signal(
    env: FusionDistillEnv, *, actions: int, streams: int, horizon: int, seed: int, show: bool = False
) -> list[dict[str, Any]]:
    """Measure the returns of held actions along one run under the policy `constant`.

    Args:
        env: Environment with ``reward="gap"``; it is reset and played up to 75 % of its rounds.
        actions: How many actions, uniform in the box and the same at every snapshot; and as many near the best.
        streams: How many random streams each.
        horizon: Rounds for which a fork holds its action.
        seed: Seed of the run, the actions and the streams.
        show: Show a progress bar.

    Returns:
        One row for each fork: `fraction`, `region`, `action` (its number in the region), `stream`, the numbers of the
        action, the weight `guidance_weight` that they mean, and the returns `gap` and `gap_delta`.

    Raises:
        ConfigError: A number is too small, or the run is too short for the horizon.
    """
    for name, value, low in (("actions", actions, 4), ("streams", streams, 2), ("horizon", horizon, 1)):
        if value < low:
            raise ConfigError(f"{name} must be at least {low}. Got {value}")
    rounds = env.config.rounds
    starts = [round(fraction * rounds) for fraction in FRACTIONS]
    if starts[-1] + horizon > rounds or len(set(starts)) < len(starts):
        raise ConfigError(f"rounds={rounds} is too short for snapshots at {FRACTIONS} and a horizon of {horizon}")
    rng = np.random.default_rng(seed)
    everywhere = rng.uniform(-1, 1, (actions, ACTION_SIZE)).astype(np.float32)
    held = np.asarray(policy_setup("constant", env.config).settings["action"], np.float32)
    _, info = env.reset(seed=seed)
    rows = []
    with tqdm(total=len(starts) * len(REGIONS) * actions * streams, desc="forks", disable=not show) as bar:
        for fraction, start in zip(FRACTIONS, starts, strict=True):
            while info["round"] < start:
                *_, info = env.step(held)
            tried = everywhere
            for region, first in zip(REGIONS, (seed + 1, seed + 1 + streams), strict=True):
                found = _measure(env, tried, range(first, first + streams), horizon, info["gap"], bar)
                rows += [{"fraction": fraction, "region": region, **row} for row in found]
                best = tried[pd.DataFrame(found).groupby("action")[REWARDS[0]].mean().idxmax()]
                tried = np.clip(best + rng.uniform(-NEAR, NEAR, tried.shape), -1, 1).astype(np.float32)
    return rows


def _measure(
    env: FusionDistillEnv, tried: NDArray[np.float32], seeds: Sequence[int], horizon: int, before: float, bar: tqdm
) -> list[dict[str, Any]]:
    """Hold every action in a fork for every seed."""
    rows = []
    for number, action in enumerate(tried):
        meaning = _meaning(env, action)
        for stream, seed in enumerate(seeds):
            returns = _play(env.fork(seed=seed), action, horizon, before)
            rows.append({"action": number, "stream": stream, **meaning, **returns})
            bar.update()
    return rows


def _meaning(env: FusionDistillEnv, action: NDArray[np.float32]) -> dict[str, float]:
    weights, _ = env.decode_action(action)
    numbers = {f"action_{name}": float(value) for name, value in zip(ACTION_NAMES, action, strict=True)}
    return {**numbers, "guidance_weight": weights.guidance}


def _play(env: FusionDistillEnv, action: NDArray[np.float32], horizon: int, before: float) -> dict[str, float]:
    """Hold an action; the return of ``gap_delta`` is the change over all rounds, as its terms cancel."""
    gaps = []
    for _ in range(horizon):
        _, reward, terminated, truncated, _ = env.step(action)
        gaps.append(reward)
        if terminated or truncated:
            break
    return {"gap": sum(gaps), "gap_delta": gaps[-1] - before}


def returns_by_snapshot(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, float, str], NDArray[np.float64]]:
    """Arrange the returns of each region, snapshot and kind of reward as a table [actions, streams]."""
    frame = pd.DataFrame(rows).set_index(["region", "fraction", "action", "stream"]).sort_index()
    return {
        (region, fraction, reward): frame.loc[(region, fraction), reward].unstack().to_numpy()
        for region in REGIONS
        for fraction in FRACTIONS
        for reward in REWARDS
    }


def _weights(rows: Sequence[dict[str, Any]], region: str, fraction: float) -> NDArray[np.float64]:
    frame = pd.DataFrame(rows)
    here = frame[(frame["region"] == region) & (frame["fraction"] == fraction)]
    return here.groupby("action")["guidance_weight"].first().to_numpy()


def _table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    titles = ["preset", "actions", "snapshot", "reward", "action", "stream", "rest", "std of return", "weights alone"]
    lines = []
    for (region, fraction, reward), table in returns_by_snapshot(rows).items():
        share = variance_shares(table)
        by_weight = explained_by_weight(table, _weights(rows, region, fraction))
        parts = (share.action, share.stream, share.rest, f"{share.deviation:.4f}", by_weight)
        lines.append([name, region, f"{fraction:.0%}", reward, *parts])
    note = (
        f"*near*: actions within +-{NEAR} of the best one of the snapshot, in other streams. *weights alone*: share of "
        "the variance between the actions that a parabola in the guidance weight explains (adjusted R squared)."
    )
    return f"{markdown_table(titles, lines, decimals=2)}\n\n{note}"


def _draw(rows: Sequence[dict[str, Any]], horizon: int, title: str, path: Path) -> None:
    tables = returns_by_snapshot(rows)
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    bars, points = figure.subplots(1, 2)
    _draw_shares(bars, {key[:2]: variance_shares(table) for key, table in tables.items() if key[2] == REWARDS[0]})
    for index, fraction in enumerate(FRACTIONS):
        for region, marker in zip(REGIONS, "ox", strict=True):
            means = tables[region, fraction, REWARDS[0]].mean(axis=1) / horizon
            label = f"{fraction:.0%}" if marker == "o" else None
            weights = _weights(rows, region, fraction)
            points.scatter(weights, means, s=14, color=f"C{index}", marker=marker, label=label)
    points.set_xlabel("guidance weight of the held action (x: near the best)")
    points.set_ylabel("mean gap per round")
    points.legend(fontsize=8, title="snapshot", title_fontsize=8)
    points.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, dpi=110)


def _draw_shares(axis: Axes, shares: dict[tuple[str, float], Shares]) -> None:
    for offset, region in zip((-0.2, 0.2), REGIONS, strict=True):
        bottom = np.zeros(len(FRACTIONS))
        for part, colour in (("action", "C0"), ("stream", "C1"), ("rest", "0.8")):
            heights = np.array([getattr(shares[region, fraction], part) for fraction in FRACTIONS])
            label = part if offset < 0 else None
            axis.bar(np.arange(len(FRACTIONS)) + offset, heights, 0.36, bottom=bottom, color=colour, label=label)
            bottom += heights
    axis.set_xticks(range(len(FRACTIONS)), [f"{fraction:.0%}" for fraction in FRACTIONS])
    axis.set_xlabel("snapshot (left bar: all actions, right bar: near the best)")
    axis.set_ylabel(f"share of the variance of returns ({REWARDS[0]})")
    axis.legend(fontsize=8, loc="lower right")


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    env = FusionDistillEnv.from_task(
        build_task(tasks.config(args.task, args.preset, **given_settings(args), reward="gap"), progress_bar)
    )
    rows = action_signal(
        env, actions=args.actions, streams=args.streams, horizon=args.horizon, seed=args.seed, show=True
    )
    start = start_label(args.preset, args.task)
    table = _table(start, rows)
    out = args.out or Path("runs") / f"action-signal-{start}"
    title = f"{start}: {args.actions} actions x {args.streams} streams, held for {args.horizon} rounds"
    write_csv(out / "action_signal.csv", rows)
    write_text(out / "action_signal.md", f"{title}\n\n{table}\n")
    _draw(rows, args.horizon, title, out / "action_signal.png")
    print(f"{title}\n\n{table}\n\nWritten to {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    add_preset(parser, "bench")
    parser.add_argument("--actions", type=int, default=16, help="actions to try at each snapshot")
    parser.add_argument("--streams", type=int, default=4, help="random streams for each action")
    parser.add_argument("--horizon", type=int, default=3, help="rounds for which an action is held")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run, the actions and the streams")
    parser.add_argument("--out", type=Path, help="directory for the results (default: runs/action-signal-PRESET)")
    add_settings(parser, "bench", without=("reward",))
    return parser


if __name__ == "__main__":
    exit_on_error(main)
