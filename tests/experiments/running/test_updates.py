"""What a run says of its agent's updates: those that are due are made, and those that changed nothing do not count."""

import json
import logging
from pathlib import Path

import pytest

from experiments.measurements.kill_and_resume import differences
from experiments.run_agent import main
from experiments.running.directory import RunDirectory
from fusion_env.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


def updates(run: RunDirectory) -> int:
    summary = json.loads(run.summary.path.read_text())
    return summary["gradient_updates"]


@pytest.mark.parametrize(
    ("algo", "more", "expected"),
    [
        ("ppo", ["n_steps=10"], 10),
        pytest.param("a2c", ["n_steps=5"], 2, marks=pytest.mark.slow),
        pytest.param("sac", ["learning_starts=2"], 8 * 4, marks=pytest.mark.slow),
        pytest.param("td3", ["learning_starts=2"], 8 * 4 // 2, marks=pytest.mark.slow),
        pytest.param("reinforce", ["horizon=3"], 10, marks=pytest.mark.slow),
        pytest.param("sb3_contrib:TRPO", ["policy=MlpPolicy", "n_steps=5", "batch_size=5"], 2, marks=pytest.mark.slow),
        pytest.param("sb3_contrib:ARS", ["policy=LinearPolicy", "n_delta=1"], 1, marks=pytest.mark.slow),
    ],
)
def test_every_update_that_is_due_is_made(finished, tmp_path: Path, algo: str, more: list[str], expected: int) -> None:
    if algo.startswith("sb3_contrib"):
        pytest.importorskip("sb3_contrib")
    # ARS compares two episodes for an update.
    protocol = ["--protocol", "across", "--eval-runs", "1", "--runs", "2" if "ARS" in algo else "1"]
    rounds = "5" if "ARS" in algo else "10"
    run = finished(tmp_path / "run", "--algo", algo, "--rounds", rounds, *protocol, "--agent-settings", *more)
    assert updates(run) == expected
    assert [row["phase"] for row in run.rounds.read()].count("learn") == 10


@pytest.mark.slow
def test_an_end_before_the_budget_is_learnt_from_too(finished, tmp_path: Path) -> None:
    """A student that diverges ends its run; every round that was played is learnt from, the last one too."""
    end = [
        "--student-init",
        "embedded",
        "--stage0-rounds",
        "0",
        "--learning-rate",
        "1e30",
        "--runs",
        "4",
        "--rounds",
        "3",
    ]
    run = finished(tmp_path / "run", "--algo", "sac", *end, "--agent-settings", "learning_starts=1")
    rows = run.rounds.read()
    assert len(rows) < 12
    assert {row["run"] for row in rows} == {"0", "1", "2", "3"}
    assert updates(run) == 4 * (len(rows) - 1)


@pytest.mark.slow
def test_updates_of_earlier_attempts_count(finished, crashed, tmp_path: Path) -> None:
    common = ["--algo", "sac", "--rounds", "8", "--checkpoint-every", "3", "--agent-settings", "learning_starts=1"]
    whole, cut = finished(tmp_path / "whole", *common), crashed(7, tmp_path / "cut", *common)
    assert main(["--resume", str(cut.path)]) == 0
    assert updates(cut) == updates(whole) == 7 * 4
    assert differences(whole.path, cut.path, "sac") == ()


def test_an_agent_that_did_not_move_was_not_updated(finished, tmp_path: Path, caplog) -> None:
    settings = ["--agent-settings", "max_grad_norm=0"]
    with caplog.at_level(logging.WARNING):
        run = finished(tmp_path / "run", "--algo", "ppo", "--rounds", "10", *settings)
    assert updates(run) == 0
    assert "agent ppo learned nothing in 10 rounds: no update changed its policy" in caplog.text


@pytest.mark.parametrize(
    ("algo", "settings", "message"),
    [
        ("ppo", ["n_steps=64"], "n_steps must be at most 6 "),
        ("sac", ["learning_starts=5"], "learning_starts must be below a quarter of the 6 steps"),
        ("stable_baselines3:SAC", ["policy=MlpPolicy"], "learning_starts must be below a quarter of the 6 steps"),
        ("stable_baselines3:PPO", ["policy=MlpPolicy"], "n_steps must be at most 6 .* Got 2048"),
        ("sb3_contrib:ARS", ["policy=LinearPolicy"], "16 episodes of 3 steps for each update.* Got 6; 48 would do"),
        ("reinforce", ["learning_rate=0.0"], "learning_rate must be above 0"),
    ],
)
def test_what_never_updates_is_refused_before_the_first_round(tiny, tmp_path: Path, algo, settings, message) -> None:
    if algo.startswith("sb3_contrib"):
        pytest.importorskip("sb3_contrib")
    common = ["--algo", algo, "--rounds", "3", "--runs", "2", "--agent-settings", *settings]
    with pytest.raises(ConfigError, match=message):
        main(tiny(tmp_path / "run", *common))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("algo", "settings", "protocol", "said"),
    [
        ("ppo", ["n_steps=6"], "online", True),
        ("reinforce", ["horizon=6"], "online", True),
        ("reinforce", ["horizon=5"], "online", False),
        ("ppo", ["n_steps=6"], "across", False),
    ],
)
def test_what_learns_too_late_to_be_used_is_said(finished, tmp_path, caplog, algo, settings, protocol, said) -> None:
    more = ["--protocol", protocol] + (["--eval-runs", "1"] if protocol == "across" else [])
    with caplog.at_level(logging.WARNING):
        finished(tmp_path / "run", "--algo", algo, "--rounds", "6", *more, "--agent-settings", *settings)
    assert ("after the last of 6 rounds, so that nothing it learns is used" in caplog.text) == said


def test_few_updates_are_warned_about_for_algorithms_of_others(finished, tmp_path: Path) -> None:
    settings = ["--agent-settings", "policy=MlpPolicy", "n_steps=3"]
    with pytest.warns(UserWarning, match="A2C makes 2 gradient updates in 6 steps: expect no learning") as caught:
        finished(tmp_path / "run", "--algo", "stable_baselines3:A2C", "--rounds", "6", *settings)
    assert len([one for one in caught if "expect no learning" in str(one.message)]) == 1


OWN_ENVIRONMENT = """
from stable_baselines3 import A2C
from tests.agents.toy import Walk

def make(env):
    return A2C("MlpPolicy", Walk(), n_steps=3)
"""


def test_an_algorithm_that_learns_elsewhere_is_refused(tiny, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_ENVIRONMENT)
    with pytest.raises(ConfigError, match="does not learn on the environment that it was given"):
        main(tiny(tmp_path / "run", "--algo", f"{tmp_path}/mine.py:make", "--rounds", "6"))
