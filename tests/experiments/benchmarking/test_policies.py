"""What the names of policies mean in an experiment."""

from pathlib import Path

import numpy as np
import pytest

from experiments.running.policies import policy_setup
from fusion_env.action import decode_action, even_degradation
from fusion_env.config import preset
from fusion_env.errors import ConfigError

POLICY = """
class Still:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return [[0.0] * 7] * len(observation), None
"""


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    file = tmp_path / "reinforce_of_mine.py"
    file.write_text(POLICY)
    setup = policy_setup(f"{file}:Still", preset("tiny"))
    assert setup.settings == {}
    assert not setup.learns


def test_who_learns() -> None:
    learns = {name: policy_setup(name, preset("tiny")).learns for name in ("random", "random-search", "ppo", "linear")}
    assert learns == {"random": False, "random-search": True, "ppo": True, "linear": False}
    assert policy_setup("stable_baselines3:A2C", preset("tiny")).learns


@pytest.mark.parametrize(("name", "guidance"), [("reinforce", 0.9), ("reinforce-paper", 0.5)])
@pytest.mark.parametrize("logit_scale", [1.5, 3.0])
def test_where_reinforce_starts(name: str, guidance: float, logit_scale: float) -> None:
    start = policy_setup(name, preset("tiny", logit_scale=logit_scale)).settings["initial_mean"]
    weights, degradation = decode_action(np.array(start), logit_scale=logit_scale)
    assert weights.guidance == pytest.approx(guidance)
    assert degradation == even_degradation(0.25)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'reinforce'"):
        policy_setup("reinforced", preset("tiny"))
    with pytest.raises(ConfigError, match="no module 'nosuch'"):
        policy_setup("nosuch:Policy", preset("tiny"))
