"""Measure whether the reward ranks students as the report does.

Many constant actions are each held for a whole run, with several seeds. The student at a run's end is scored on the
whole images of the reward split, on crops of them, and on the report split. The rank correlation (Spearman) of E on the
reward split with E on the report split, and with metrics that are in nobody's objective, says what an agent that is
paid by the one achieves by the other.

python experiments/studies/reward_validity.py --preset bench --threads 1
python experiments/studies/reward_validity.py --preset bench --data DIR --threads 1

The same command goes on where it was stopped: finished runs are read.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.command_line import (
    add_preset,
    add_settings,
    exit_on_error,
    given_settings,
    make_parser,
    progress_bar,
    start_label,
)
from experiments.evaluation.baselines import FuseLuma, classical, post_processed
from experiments.output import markdown_table, save_figure, write_csv, write_text
from experiments.studies.split_scores import SplitScores, teacher
from fusion_env import tasks
from fusion_env.action import ACTION_NAMES, ACTION_SIZE, decode_action
from fusion_env.cache import cache_folder, content_key
from fusion_env.config import MACHINE_ONLY, TeacherSettings
from fusion_env.crop_bank import build_bank, plan_crops
from fusion_env.data import Progress, no_progress
from fusion_env.errors import ConfigError
from fusion_env.stored_images import StoredImages
from fusion_env.task import DistillationTask, build_task
from student.weights import build_student

__all__ = ["actions", "correlations", "interval", "main", "reward_validity", "score", "spearman"]

METRICS = ("vif", "iqa", "mae", "viff", "ag", "qabf", "ssim", "ei", "sd")
LOWER_IS_BETTER = ("mae",)
COMPARED = ("mae", "viff", "ag", "qabf", "ssim")
"""Metrics of the report split that the reward is compared with, beside E."""

SCORES = {
    "teacher": "divided by the teacher's mean",
    "average": "divided by the distance between averaging and the teacher",
    "laplacian": "divided by the distance between the Laplacian pyramid and the teacher",
}
"""Ways to bring the metrics of E to one scale."""

_CROPS, _CROP_SIZE = 12, 96
_RESAMPLES = 2000
# As a share of the teacher's mean: below that the distance to a classical method is no scale.
_SMALLEST_SPREAD = 0.01
# From here on an action is mostly imitation: what is left to choose where the worst is avoided.
_IMITATING = 0.5

Row = dict[str, Any]


def actions(count: int, seed: int) -> NDArray[np.float32]:
    """Return constant actions [count, numbers of an action] that cover the box evenly (scrambled Sobol sequence)."""
    points = torch.quasirandom.SobolEngine(ACTION_SIZE, scramble=True, seed=seed).draw(count)
    return (2 * points - 1).numpy().astype(np.float32)


def reward_validity(
    task: DistillationTask, out: Path, *, count: int, seeds: int, seed: int = 0, progress: Progress = no_progress
) -> tuple[list[Row], dict[str, Row]]:
    """Train a student for every action and seed, and score it.

    Args:
        task: The task.
        out: Directory with ``runs.csv``, which has a row for each run; those that it has are not repeated.
        count: Number of actions, at least 4.
        seeds: Runs of each.
        seed: Seed of the actions.
        progress: Progress display over the runs.

    Returns:
        The rows of ``runs.csv``, and for ``teacher``, ``stage0``, post-processed stage 0 and classical methods the same
        scores.

    Raises:
        ConfigError: A number is too small, the directory holds the runs of another task, or that is seen through
            cameras.
    """
    if count < 4 or seeds < 1:
        raise ConfigError(f"a correlation needs at least 4 actions and 1 seed. Got {count} and {seeds}")
    if task.config.camera != "none":
        raise ConfigError(f"camera={task.config.camera!r} is of whole images, and this compares them with crops")
    study, key = SplitScores(task, _images(task), METRICS), _key(task, seed)
    rows = _finished(out / "runs.csv", key)
    done = {(row["action"], row["seed"]) for row in rows}
    tried = actions(count, seed)
    for number, stream in progress([(a, s) for s in range(seeds) for a in range(count)], "runs"):
        if (number, stream) not in done:
            rows.append({"task": key, "action": number, "seed": stream, **_run(study, tried[number], stream)})
            write_csv(out / "runs.csv", rows)
    return rows, _references(study)


def _images(task: DistillationTask) -> dict[str, list[StoredImages]]:
    whole, splits, config = task.report.images, task.splits, task.config
    smallest = min(min(task.source.sizes[index]) for index in splits.reward)
    plan = plan_crops(
        task.source,
        splits.reward,
        count=config.score_crops or _CROPS,
        size=config.score_size or min(_CROP_SIZE, smallest),
        flip=False,
        rng=np.random.default_rng(config.data_seed),
    )
    folder, settings = cache_folder(config.cache_dir), config.group(TeacherSettings)
    crops = build_bank(task.source, plan, task.teacher, settings, folder=folder, device=task.device)
    return {"reward": whole.by_size(splits.reward), "report": whole.by_size(splits.report), "crops": [crops]}


def _key(task: DistillationTask, seed: int) -> str:
    settings = {name: value for name, value in task.config.to_dict().items() if name not in MACHINE_ONLY}
    return content_key({"settings": settings, "fingerprints": task.fingerprints, "seed": seed})[:12]


def _finished(path: Path, key: str) -> list[Row]:
    if not path.exists():
        return []
    rows = pd.read_csv(path, dtype={"task": str}).to_dict("records")  # some keys look like numbers
    if any(row["task"] != key for row in rows):
        raise ConfigError(f"{path} holds the runs of another task: choose another --out")
    return rows


def _run(study: SplitScores, action: NDArray[np.float32], seed: int) -> Row:
    """Train one student under a constant action; only its end is scored."""
    config, start = study.task.config, time.perf_counter()
    weights, degradation = decode_action(
        action, logit_scale=config.logit_scale, guidance=config.guidance, self_learning=config.self_learning
    )
    engine = study.task.new_engine(seed, seed)
    diverged = any(engine.run_round(weights, degradation).diverged for _ in range(config.rounds))
    numbers = {f"action_{name}": float(value) for name, value in zip(ACTION_NAMES, action, strict=True)}
    seconds = round(time.perf_counter() - start, 2)
    scores = study.scores(engine.student)
    return {**numbers, "guidance_weight": weights.guidance, "diverged": diverged, "seconds": seconds, **scores}


def _references(study: SplitScores) -> dict[str, Row]:
    stage0 = build_student(study.task.stage0, "stage 0").to(study.task.device)
    processed = {f"stage0 {name}": fuse for name, fuse in post_processed(stage0).items()}
    methods: dict[str, FuseLuma] = {"teacher": teacher, "stage0": stage0, **processed, **classical()}
    return {name: study.scores(fuse) for name, fuse in methods.items()}


def score(
    frame: pd.DataFrame, references: Mapping[str, Row], split: str, by: str, metrics: Sequence[str]
) -> NDArray[np.float64]:
    """Return E of every row on a split.

    Args:
        frame: Columns ``SPLIT_METRIC``.
        references: Scores of the teacher and of classical methods.
        split: ``"reward"``, ``"report"`` or ``"crops"``.
        by: One of `SCORES`. The scale is that of the reward split, for the report as well, and of the crops for these.
        metrics: Metrics whose mean E is.
    """
    parts = [frame[f"{split}_{name}"] / _scale(references, "crops" if split == "crops" else "reward", by, name)
             for name in metrics]  # fmt: skip
    return np.mean(parts, axis=0)


def _scale(references: Mapping[str, Row], split: str, by: str, metric: str) -> float:
    teacher = references["teacher"][f"{split}_{metric}"]
    return teacher if by == "teacher" else abs(teacher - references[by][f"{split}_{metric}"])


def usable_scores(references: Mapping[str, Row], metrics: Sequence[str]) -> list[str]:
    """Return those of `SCORES` that have a scale: none has the distance to a method that is the teacher itself."""

    def usable(by: str, split: str, metric: str) -> bool:
        least = _SMALLEST_SPREAD * _scale(references, split, "teacher", metric)
        return _scale(references, split, by, metric) > least

    return [by for by in SCORES if all(usable(by, split, m) for split in ("reward", "crops") for m in metrics)]


def spearman(
    a: NDArray[np.float64], b: NDArray[np.float64], counts: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of samples that hold every run so many times; NaN where a side is constant.

    Args:
        a: One value for each run, [n].
        b: Another one.
        counts: How often each sample holds each run, [samples, n]; None is one sample with every run once.

    Returns:
        The correlation in each sample, [samples].
    """
    weights = np.ones((1, len(a))) if counts is None else counts
    first, second = (_centred_ranks(values, weights) for values in (a, b))
    products = [(weights * x * y).sum(1) for x, y in ((first, second), (first, first), (second, second))]
    with np.errstate(invalid="ignore"):
        return products[0] / np.sqrt(products[1] * products[2])


def _centred_ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks in each sample, ties sharing their mean, less the sample's mean rank."""
    below = values[:, None] < values[None]
    equal = values[:, None] == values[None]
    ranks = weights @ below + (weights @ equal + 1) / 2
    return ranks - (weights * ranks).sum(1, keepdims=True) / weights.sum(1, keepdims=True)


def interval(a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of `spearman`; whole groups (the runs of an action) are drawn."""
    _, group = np.unique(groups, return_inverse=True)
    number = group.max() + 1
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=_RESAMPLES)
    low, high = np.nanquantile(spearman(a, b, drawn[:, group].astype(float)), [0.025, 0.975])
    return float(low), float(high)


def correlations(
    frame: pd.DataFrame, references: Mapping[str, Row], metrics: Sequence[str]
) -> list[tuple[str, str, dict[str, str]]]:
    """Correlate E of the reward split, whole or as crops, with what the report says.

    Returns:
        Split, kind of score, and for ``E`` and each of `COMPARED` the correlation with its interval, as text. Signs are
        such that 1 means full agreement.
    """
    groups = frame["action"].to_numpy()
    lines = []
    for split in ("reward", "crops"):
        for by in usable_scores(references, metrics):
            paid = score(frame, references, split, by, metrics)
            told = {"E": score(frame, references, "report", by, metrics)}
            told |= {name: _upwards(frame, name) for name in COMPARED}
            lines.append((split, by, {name: _estimate(paid, values, groups) for name, values in told.items()}))
    return lines


def _upwards(frame: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    return frame[f"report_{metric}"].to_numpy() * (-1 if metric in LOWER_IS_BETTER else 1)


def _estimate(a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[np.int64]) -> str:
    low, high = interval(a, b, groups)
    return f"{spearman(a, b)[0]:.2f} [{low:.2f}, {high:.2f}]"


def page(title: str, rows: Sequence[Row], references: Mapping[str, Row], metrics: Sequence[str]) -> str:
    """Write the tables for people."""
    frame = pd.DataFrame(rows)
    imitating = frame[frame["guidance_weight"] >= _IMITATING]
    parts = [f"# Does the reward rank students as the report does?\n\n{title}"]
    for name, chosen in (("All actions", frame), (f"Guidance weight of {_IMITATING} or more", imitating)):
        if chosen["action"].nunique() < 4:
            continue
        lines = [
            ["whole images" if split == "reward" else "crops", by, *cells.values()]
            for split, by, cells in correlations(chosen, references, metrics)
        ]
        header = ["reward from", "E by", "E", *(name.upper() for name in COMPARED)]
        parts.append(f"## {name}: {len(chosen)} runs\n\n{markdown_table(header, lines)}")
    parts.append(
        "Spearman's correlation of E on the reward split with E and other metrics on the report split, MAE turned "
        "round; 95 % bootstrap intervals over actions. E by: "
        + "; ".join(f"*{by}*, {text}" for by, text in SCORES.items())
        + "."
    )
    parts.append("## What is there without training\n\n" + _reference_table(frame, references, metrics))
    return "\n\n".join(parts) + "\n"


def _reference_table(frame: pd.DataFrame, references: Mapping[str, Row], metrics: Sequence[str]) -> str:
    best = int(np.argmax(score(frame, references, "report", "teacher", metrics)))
    methods = pd.DataFrame({**references, "best run": frame.iloc[best].to_dict()}).T
    columns = {
        f"E by {by}": score(methods, references, "report", by, metrics) for by in usable_scores(references, metrics)
    }
    columns |= {name.upper(): methods[f"report_{name}"].to_numpy() for name in METRICS}
    lines = zip(methods.index, *([f"{value:.3f}" for value in column] for column in columns.values()), strict=True)
    return markdown_table(["on the report split", *columns], lines)


def _draw(rows: Sequence[Row], references: Mapping[str, Row], metrics: Sequence[str], title: str, path: Path) -> None:
    frame = pd.DataFrame(rows)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, split in zip(figure.subplots(1, 2, sharey=True), ("reward", "crops"), strict=True):
        paid, told = (score(frame, references, part, "teacher", metrics) for part in (split, "report"))
        points = axis.scatter(paid, told, c=frame["guidance_weight"], s=18, vmin=0, vmax=1)
        axis.set_xlabel(f"E on {'whole images' if split == 'reward' else 'crops'} of the reward split")
        axis.grid(alpha=0.3)
        axis.set_title(f"rank correlation {spearman(paid, told)[0]:.2f}", fontsize=9)
        if split == "reward":
            axis.set_ylabel("E on the report split")
        else:
            figure.colorbar(points, ax=axis, label="guidance weight")
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    task = build_task(tasks.config(args.task, args.preset, **given_settings(args)), progress_bar)
    out = args.out or Path("runs") / f"reward-validity-{start_label(args.preset, args.task)}"
    rows, references = reward_validity(
        task, out, count=args.actions, seeds=args.seeds, seed=args.seed, progress=progress_bar
    )
    config = task.config
    title = f"Settings of {tasks.described(config, args.task, args.preset)}; {task.describe()['data']}; "
    title += f"{args.actions} actions x {args.seeds} seeds, runs of {config.rounds} rounds of {task.iterations} "
    title += "iterations."
    text = page(title, rows, references, config.score_metrics)
    write_csv(out / "references.csv", [{"method": name, **row} for name, row in references.items()])
    write_text(out / "reward_validity.md", text)
    _draw(rows, references, config.score_metrics, title, out / "reward_validity.png")
    print(f"{text}\nWritten to {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    add_preset(parser, "bench")
    parser.add_argument("--actions", type=int, default=24, help="constant actions to try")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each action")
    parser.add_argument("--seed", type=int, default=0, help="seed of the actions")
    parser.add_argument("--out", type=Path, help="directory for the results (default: in runs/)")
    add_settings(parser, "bench")
    return parser


if __name__ == "__main__":
    exit_on_error(main)
