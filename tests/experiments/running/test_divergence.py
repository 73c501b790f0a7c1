import csv
import dataclasses
from pathlib import Path

import pytest
import torch

import agents
from experiments.benchmark import main as benchmark
from experiments.benchmarking.executors import Job, map_runs
from experiments.benchmarking.grid import Grid
from experiments.benchmarking.table import raw_row
from experiments.command_line import exit_on_error
from experiments.replay import replay
from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from experiments.running.run import AgentDivergedError
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.task import build_task
from student.weights import load_state

POLICIES = """
import numpy as np
from stable_baselines3 import PPO

from fusion_env.action import ACTION_SIZE


def wild(env):
    return PPO("MlpPolicy", env, learning_rate=1e6, n_steps=4, batch_size=4, seed=0)


class Breaking:
    def __init__(self, after=12):
        self.left = after

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.left -= 1
        return np.full((len(observation), ACTION_SIZE), 0.0 if self.left >= 0 else np.nan), None


class Wrong:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        raise ValueError("my own mistake")
"""


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("policies") / "policies.py"
    file.write_text(POLICIES)
    return file


def test_student_with_a_huge_learning_rate(finished, tmp_path: Path) -> None:
    run = finished(tmp_path, "--learning-rate", "1e6", "--rounds", "5")
    load_state(run.student)  # refuses what is not finite
    assert all(float(row["reward"]) >= -5 for row in run.rounds.read())


@pytest.mark.slow
def test_students_that_diverge_are_counted_and_the_last_finite_ones_kept(
    finished, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    diverging = ["--student-init", "embedded", "--stage0-rounds", "0", "--learning-rate", "1e30", "--details"]
    more = ["--algo", "constant", "--rounds", "5", "--protocol", "across", "--runs", "2", "--eval-runs", "1"]
    run = finished(tmp_path, *more, *diverging)
    assert [(row["phase"], row["run"], row["diverged"], row["reward"]) for row in run.rounds.read()] == [
        ("learn", "0", "True", "-5.0"),
        ("learn", "1", "True", "-5.0"),
        ("evaluate", "2", "True", "-5.0"),
    ]
    summary = run.summary.read()
    assert summary["diverged_runs"] == 3
    assert "3 run(s) diverged" in capsys.readouterr().out
    for number in range(3):
        assert f"run {number}: the student diverged in round 1 of 5 with learning_rate=1e+30" in caplog.text
    assert "the guidance-only control diverged in round 1" in caplog.text
    report = summary["report"]
    for name in ("guidance_only", "final"):
        assert report[name] == pytest.approx(report["stage0"], rel=1e-4)
    task = build_task(run.read_config().env)
    kept = load_state(run.student)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in task.stage0.items())
    assert replay(run.path).equal


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "rate"), [("ppo", 1e6), ("sac", 1e6), ("td3", 1e6), ("reinforce", 1e38)])
def test_agents_that_diverge_are_one_clear_line(
    tiny, tmp_path: Path, algo: str, rate: float, capsys: pytest.CaptureFixture
) -> None:
    arguments = tiny(tmp_path, "--algo", algo, "--rounds", "20", "--agent-settings", f"learning_rate={rate:.1f}")
    with pytest.raises(SystemExit) as caught:
        exit_on_error(lambda: main(arguments))
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.rpartition("\r")[2].strip().startswith("error: agent " + algo + " diverged after ")
    assert f"lower its learning_rate ({rate})" in line
    run = RunDirectory(tmp_path)
    load_state(run.student)
    assert not run.agent.exists()
    result, rows = run.summary.read(), run.rounds.read()
    assert result["diverged_runs"] == 1
    lost = 20 - len(rows)
    assert result["return"] == pytest.approx(sum(float(row["reward"]) for row in rows) - lost)
    assert replay(run.path).equal


def test_reinforce_is_bounded(finished, tmp_path: Path) -> None:
    run = finished(tmp_path, "--rounds", "8", "--agent-settings", "learning_rate=1000000.0")
    assert run.summary.read()["agent_diverged"] is None


@pytest.mark.slow
def test_the_last_checkpoint_stays_and_the_verdict_is_final(tiny, tmp_path: Path, policies: Path) -> None:
    arguments = tiny(tmp_path, "--algo", f"{policies}:Breaking", "--rounds", "9", "--runs", "3")
    for command in (arguments, ["--resume", str(tmp_path)], arguments):
        with pytest.raises(AgentDivergedError, match="after 12 of 27 rounds.*correct the policy; the checkpoint of"):
            main(command)
    run = RunDirectory(tmp_path)
    assert run.checkpoints() == [run.checkpoint(10)]
    # Of the second run, three rounds were done and six are lost.
    rewards = [float(row["reward"]) for row in run.rounds.read()]
    assert run.summary.read()["return"] == pytest.approx(sum(rewards[9:]) - 6)


def test_a_policy_that_never_acted_is_a_wrong_setting(tiny, tmp_path: Path, policies: Path) -> None:
    with pytest.raises(ConfigError, match="after 0 of 3 rounds"):
        main(tiny(tmp_path, "--algo", f"{policies}:Breaking", "--rounds", "3", "--agent-settings", "after=0"))
    assert not RunDirectory(tmp_path).is_finished


def test_a_policys_own_error_is_not_divergence(tiny, tmp_path: Path, policies: Path) -> None:
    with pytest.raises(ValueError, match="^my own mistake$"):
        main(tiny(tmp_path, "--algo", f"{policies}:Wrong", "--rounds", "3"))


@pytest.mark.slow
def test_the_benchmark_counts_broken_agents(cache: str, tmp_path: Path, policies: Path) -> None:
    common = ["--preset", "tiny", "--cache-dir", cache, "--rounds", "8", "--seeds", "0-1", "--out", str(tmp_path)]
    common += ["--batch-size", "1", "--score-crops", "1", "--divergence-reward", "-5"]
    assert benchmark([*common, "--algos", "constant", f"{policies}:wild"]) == 0
    rows = list(csv.DictReader((tmp_path / "raw.csv").open()))
    assert [(row["diverged_runs"], row["learning_rounds"]) for row in rows] == [("0", "8")] * 2 + [("1", "4")] * 2
    assert max(float(row["mean_reward"]) for row in rows[2:]) < min(float(row["mean_reward"]) for row in rows[:2])
    assert benchmark([*common, "--algos", "constant", f"{policies}:wild"]) == 0


@pytest.mark.slow
def test_a_broken_agent_loses_all_runs_that_it_is_judged_by(cache: str, tmp_path: Path) -> None:
    settings = {"cache_dir": cache, "rounds": 8, "threads": 1}
    (cell,) = Grid("across", ("ppo",), seeds=(0,), preset="tiny", settings=settings, runs=2, eval_runs=2).cells(
        tmp_path
    )
    settings = {"learning_rate": 1e6, "n_steps": 4, "batch_size": 4}
    broken = dataclasses.replace(cell.job.config, agent_settings=settings)
    ((_, result),) = map_runs([Job(broken, cell.job.run_dir)])
    row = raw_row(cell, result)
    assert (row["mean_reward"], row["diverged_runs"]) == (-1.0, 3)
    assert row["failed_runs"] == 2
    assert row["report_gap"] == row["last_gap"] == -1 - result["report"]["teacher"]["e"] < row["stage0_gap"]
    assert row["report_mae"] == 1


def test_a_saved_agent_with_weights_that_are_not_finite(tiny, cache: str, tmp_path: Path) -> None:
    env = FusionDistillEnv(preset="tiny", cache_dir=cache)
    agent = agents.make("ppo", env)
    with torch.no_grad():
        next(iter(agent.policy.parameters())).fill_(float("nan"))
    agent.save(tmp_path / "agent.zip")
    more = ["--eval-policy", str(tmp_path / "agent.zip"), "--algo", "ppo", "--eval-runs", "1"]
    with pytest.raises(ConfigError, match=r"agent\.zip has weights that are not finite"):
        main(tiny(tmp_path / "out", *more))
