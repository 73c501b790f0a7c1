"""What the curves of a benchmark are drawn from."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.benchmarking.executors import Job
from experiments.benchmarking.figures import draw_learning_curves, draw_schedules
from experiments.benchmarking.grid import Cell
from experiments.benchmarking.series import judged_means, judged_table, phase_rewards, phase_table
from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from fusion_env.action import ACTION_NAMES
from fusion_env.config import preset

ROUNDS = 4


def cell(run_dir: Path, policy: str = "linear", runs: int = 1, eval_runs: int = 0, **env) -> Cell:
    config = RunConfig(
        env=preset("tiny", rounds=ROUNDS, **env),
        agent=policy,
        protocol="across" if eval_runs else "online",
        runs=runs,
        eval_runs=eval_runs,
    )
    return Cell(policy, "laplacian", "procedural", 0, 0, Job(config, run_dir))


def row(phase: str, run: int, number: int, reward: float, diverged: bool = False) -> dict[str, str]:
    values = {"phase": phase, "run": run, "round": number, "reward": reward, "diverged": diverged}
    values |= {f"action_{name}": number / 10 for name in ACTION_NAMES} | {"weight_guidance": 0.7}
    return {name: str(value) for name, value in values.items()}


def test_a_run_that_diverged_keeps_its_return_round_by_round(tmp_path: Path) -> None:
    rows = [row("learn", 0, 1, -0.2), row("learn", 0, 2, -3.0, diverged=True)]
    rewards = phase_rewards(cell(tmp_path), rows, "learn")
    assert rewards.tolist() == [[-0.2, -1, -1, -1]]
    assert rewards.sum() == pytest.approx(sum(float(one["reward"]) for one in rows))


def test_what_a_broken_agent_did_not_play_is_lost(tmp_path: Path) -> None:
    rows = [row("learn", 0, 1, -0.2), row("learn", 0, 2, -0.3)]
    rewards = phase_rewards(cell(tmp_path, runs=2, eval_runs=1, divergence_reward=-2.0), rows, "learn")
    assert rewards.tolist() == [[-0.2, -0.3, -2, -2], [-2, -2, -2, -2]]
    frozen = phase_rewards(cell(tmp_path, runs=2, eval_runs=1), rows, "evaluate")
    assert frozen.tolist() == [[-1, -1, -1, -1]]


def test_a_run_that_reached_parity_earns_nothing_more(tmp_path: Path) -> None:
    rows = [row("learn", 0, 1, -0.2), row("learn", 0, 2, 0.1), row("learn", 1, 1, -4.0, diverged=True)]
    rewards = phase_rewards(cell(tmp_path, runs=2, stop_at_parity=True), rows, "learn")
    assert rewards.tolist() == [[-0.2, 0.1, 0, 0], [-1, -1, -1, -1]]


def test_judged_are_the_last_run_or_the_frozen_ones(tmp_path: Path) -> None:
    rows = [row("learn", run, number, -run) for run in range(2) for number in range(1, ROUNDS + 1)]
    rows += [row("evaluate", 2, number, -0.5) for number in range(1, ROUNDS)]
    assert judged_table(cell(tmp_path, runs=2), rows[:8], "reward").tolist() == [[-1, -1, -1, -1]]
    (frozen,) = judged_table(cell(tmp_path, runs=2, eval_runs=1), rows, "reward")
    np.testing.assert_array_equal(frozen, [-0.5, -0.5, -0.5, np.nan])
    assert phase_table(cell(tmp_path, runs=2), rows, "learn", "reward").shape == (2, ROUNDS)


def test_actions_are_averaged_over_the_runs_that_had_the_round(tmp_path: Path) -> None:
    long = [row("learn", 0, number, -1.0) for number in range(1, ROUNDS)]
    short = [{**row("learn", 0, 1, -1.0), "action_blur": "0.5"}]
    means = judged_means([(cell(tmp_path), long), (cell(tmp_path), short)], "action_blur")
    np.testing.assert_allclose(means, [0.3, 0.2, 0.3, np.nan])


@pytest.mark.parametrize("size", [6, 7, 8, 12])
def test_every_number_of_the_action_has_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    names = [f"number{i}" for i in range(size)]
    monkeypatch.setattr("experiments.benchmarking.figures.ACTION_NAMES", names)
    monkeypatch.setattr("tests.experiments.benchmarking.test_figures.ACTION_NAMES", names)
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    file = RunDirectory(tmp_path).rounds
    file.append(row("learn", 0, 1, -0.5))
    draw_schedules([cell(tmp_path)], tmp_path / "schedules.png")
    titles = [axis.get_title() for axis in drawn[0].axes if axis.get_title()]
    assert titles == [*names, "guidance weight, from 0 to 1"]


@pytest.mark.parametrize("eval_runs", [0, 2])
def test_drawn_without_a_warning_whatever_is_missing(tmp_path: Path, eval_runs: int) -> None:
    cells = [cell(tmp_path / name, name, runs=2, eval_runs=eval_runs) for name in ("ppo", "broken", "linear")]
    for index, one in enumerate(cells):
        file = RunDirectory(one.job.run_dir).rounds
        one.job.run_dir.mkdir()
        file.append(row("learn", 0, 1, -0.5))
        for run in range(2 * (index != 1)):
            file.append(row("evaluate" if eval_runs else "learn", run + (2 if eval_runs else 0), 2, -0.4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_learning_curves(cells, tmp_path / "curves.png")
        draw_schedules(cells, tmp_path / "schedules.png")
    for name in ("curves", "schedules"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png")).std() > 10
