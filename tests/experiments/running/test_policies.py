"""What the names of policies mean in an experiment."""

from pathlib import Path

import numpy as np
import pytest

from experiments.running.policies import policy_setup, run_config
from fusion_env.action import decode_action, even_degradation
from fusion_env.config import preset
from fusion_env.errors import ConfigError

POLICY = """
class Still:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        raise NotImplementedError
"""


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    file = tmp_path / "reinforce_of_mine.py"
    file.write_text(POLICY)
    setup = policy_setup(f"{file}:Still", preset("tiny"))
    assert setup.settings == {}
    assert not setup.learns


@pytest.mark.parametrize("name", ["linear", "reinforce", "ppo"])
def test_a_logit_scale_too_small_for_where_a_policy_starts(name: str) -> None:
    assert policy_setup(name, preset("tiny", logit_scale=1.1)).settings
    with pytest.raises(ConfigError, match=rf"policy '{name}': guidance must be in .* Got 0\.9"):
        policy_setup(name, preset("tiny", logit_scale=1.0))
    for other in ("constant", "guidance-only", "random"):
        assert policy_setup(other, preset("tiny", logit_scale=0.1))


def test_who_learns() -> None:
    learns = {name: policy_setup(name, preset("tiny")).learns for name in ("random", "random-search", "ppo", "linear")}
    assert learns == {"random": False, "random-search": True, "ppo": True, "linear": False}
    assert policy_setup("stable_baselines3:A2C", preset("tiny")).learns


@pytest.mark.parametrize("name", ["reinforce", "reinforce-paper", "ppo", "td3"])
@pytest.mark.parametrize("logit_scale", [1.5, 3.0])
def test_where_learners_start(name: str, logit_scale: float) -> None:
    start = policy_setup(name, preset("tiny", logit_scale=logit_scale)).settings["initial_mean"]
    weights, degradation = decode_action(np.array(start), logit_scale=logit_scale)
    assert weights.guidance == pytest.approx(0.9)
    assert degradation == even_degradation(0.25)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'reinforce'"):
        policy_setup("reinforced", preset("tiny"))
    with pytest.raises(ConfigError, match="no module 'nosuch'"):
        policy_setup("nosuch:Policy", preset("tiny"))


def test_a_run_of_a_policy() -> None:
    config = run_config("ppo", "tiny", {"rounds": 3}, agent_settings={"n_steps": 3}, seed=4)
    assert (config.agent, config.env, config.preset) == ("ppo", preset("tiny", rounds=3), "tiny")
    assert (config.protocol, config.runs, config.eval_runs, config.seed) == ("online", 1, 0, 4)
    assert config.agent_settings.keys() == {"initial_mean", "initial_std", "n_steps"}
    control = run_config("guidance-only", "tiny", {})
    assert (control.agent, control.env.self_learning) == ("constant", False)


def test_noise_that_depends_on_the_observation_has_no_first_policy() -> None:
    assert run_config("ppo", "tiny", {}, agent_settings={"use_sde": True}).agent_settings == {"use_sde": True}


@pytest.mark.parametrize(
    ("name", "fields", "runs"),
    [
        ("ppo", {}, 1),
        ("ppo", {"learning_runs": 20}, 20),
        ("linear", {"learning_runs": 20}, 0),
        ("linear", {"runs": 2}, 2),
    ],
)
def test_runs_across(name: str, fields: dict, runs: int) -> None:
    config = run_config(name, "tiny", {}, protocol="across", **fields)
    assert (config.runs, config.eval_runs) == (runs, 5)


def test_a_saved_agent_keeps_its_settings() -> None:
    config = run_config("linear", "tiny", {}, protocol="across", runs=0, policy="agent.zip")
    assert config.agent_settings == {}
