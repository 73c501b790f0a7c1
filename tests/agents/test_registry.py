"""Algorithms by name and by import path."""

import builtins
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.noise import NormalActionNoise

import agents
from agents.settings import setting_names
from tests.agents.toy import Target, Walk

EXPECTED = {
    *("a2c", "constant", "linear", "planner", "ppo", "random", "random-search"),
    *("reinforce", "reinforce-paper", "sac", "td3", "tqc"),
}


def test_names():
    assert set(agents.names()) == EXPECTED
    assert agents.names() == tuple(sorted(agents.names()))


def test_paper_preset_is_plain_gradient_ascent():
    agent = agents.make("reinforce-paper", Target())
    assert isinstance(agent.policy.optimizer, torch.optim.SGD)
    assert (agent.learning_rate, agent.horizon, agent.max_grad_norm, agent.ent_coef) == (0.01, 5, None, 0)
    assert not agent.statistics.baseline
    assert not agent.statistics.normalize


def test_overrides_win():
    agent = agents.make("reinforce", Target(), horizon=3, policy_kwargs={"net_arch": (8,)})
    assert agent.horizon == 3
    assert agent.policy.net_arch == (8,)


def test_policy_settings_are_merged():
    agent = agents.make("ppo", Target(), policy_kwargs={"net_arch": [8]})
    assert agent.policy.net_arch == [8]
    assert agent.policy.log_std_init == agents.hyperparams("ppo")["policy_kwargs"]["log_std_init"]


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_every_setting_reaches_the_algorithm(name):
    agent, ready = agents.make(name, Target()), agents.hyperparams(name)
    for key in set(ready) - {"policy", "policy_kwargs", "device", "train_freq"}:
        assert getattr(agent, key) == ready[key], key


def test_a_number_for_action_noise_is_a_standard_deviation():
    agent = agents.make("td3", Walk(low=-5, high=3), action_noise=0.25, seed=0)
    assert isinstance(agent.action_noise, NormalActionNoise)
    draws = np.array([agent.action_noise() for _ in range(2000)])
    assert draws.shape == (2000, 2)
    assert draws.std() == pytest.approx(0.25, rel=0.1)
    assert agents.make("td3", Walk(), action_noise=0).action_noise is None
    with pytest.raises(ValueError, match=r"action_noise must be .* Got -1"):
        agents.make("td3", Walk(), action_noise=-1)


@pytest.mark.parametrize(
    ("name", "overrides", "hint"),
    [
        ("reinforc", {}, "'reinforce'"),
        ("pppo", {}, "'ppo'"),
        ("reinforce", {"horizn": 3}, "'horizon'"),
        ("reinforce", {"env_id": 3}, "Known"),
        ("sac", {"learning_start": 3}, "'learning_starts'"),
        ("constant", {"actoin": 0}, "'action'"),
        ("linear", {"round": 3}, "'rounds'"),
        ("random-search", {"sed": 3}, "'seed'"),
        ("random", {"_init_setup_model": False}, "Known"),
        ("REINFORCE", {}, "'reinforce'"),
        ("ppo", {"policy": "MlpPolic"}, "'MlpPolicy'"),
        ("ppo", {"policy_kwargs": {"net_arc": [8]}}, "policy_kwargs: .*'net_arch'"),
        ("sac", {"policy_kwargs": {"n_critic": 1}}, "policy_kwargs: .*'n_critics'"),
        ("reinforce", {"policy_kwargs": {"std_rang": (0.1, 0.9)}}, "policy_kwargs: .*'std_range'"),
        ("reinforce", {"policy_kwargs": {"initial_std": 0.3}}, "policy_kwargs: .*Known: net_arch"),
    ],
)
def test_unknown_names_suggest_the_nearest(name, overrides, hint):
    with pytest.raises(ValueError, match=hint):
        agents.make(name, Target(), **overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("reinforce", {"horizon": "3"}, "horizon must be of type int. Got '3'"),
        ("reinforce", {"horizon": 2.5}, "horizon must be of type int"),
        ("reinforce", {"baseline": "no"}, "baseline must be of type bool"),
        ("reinforce", {"max_grad_norm": "1"}, "max_grad_norm must be of type float | None"),
        ("reinforce", {"policy_kwargs": {"net_arch": 8}}, "policy_kwargs.*net_arch must be"),
        ("ppo", {"policy_kwargs": "net_arch"}, "policy_kwargs must be of type dict"),
        ("ppo", {"n_steps": True}, "n_steps must be of type int"),
        ("sac", {"learning_starts": None}, "learning_starts must be of type int"),
        ("td3", {"action_noise": True}, "action_noise must be of type float"),
        ("constant", {"action": [0, "x"]}, "action must be of type float"),
        ("linear", {"rounds": "25"}, "rounds must be of type int"),
        ("random", {"seed": 1.5}, "seed must be of type int"),
    ],
)
def test_settings_of_another_type(name, overrides, message):
    with pytest.raises(TypeError, match=message):
        agents.make(name, Target(), **overrides)


def test_settings_that_are_no_number():
    with pytest.raises(ValueError, match="learning_rate must be a number. Got nan"):
        agents.make("ppo", Target(), learning_rate=float("nan"))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("reinforce", {"learning_rate": lambda left: 0.1 * left, "initial_mean": np.zeros(2), "max_grad_norm": 1}),
        ("reinforce", {"policy": agents.GaussianPolicy, "horizon": np.int64(2), "policy_kwargs": None}),
        ("ppo", {"clip_range": 0.1, "policy_kwargs": {"net_arch": {"pi": [8], "vf": [8]}}, "target_kl": None}),
        (
            "sac",
            {"train_freq": (2, "step"), "ent_coef": 0.1, "action_noise": NormalActionNoise(np.zeros(2), np.ones(2))},
        ),
        ("constant", {"action": (0.5, 0), "tensorboard_log": None}),
        ("linear", {"start": np.float32(0.5), "end": [[0.0, 0.5]]}),
    ],
)
def test_settings_of_every_type_that_fits(name, overrides):
    agents.make(name, Target(), **overrides)


def test_an_import_path_has_no_file_of_settings():
    with pytest.raises(ValueError, match=r"'agents:Constant' is an import path: only .* ppo,.* have a file"):
        agents.hyperparams("agents:Constant")


def test_settings_of_a_curriculum_include_those_of_its_bases():
    assert {"action", "seed", "verbose", "tensorboard_log"} <= set(setting_names(agents.Constant))
    assert not {"common", "self", "env"} & set(setting_names(agents.Constant))


def test_hyperparams_are_a_fresh_copy():
    agents.hyperparams("reinforce")["horizon"] = 99
    assert agents.hyperparams("reinforce")["horizon"] != 99


def test_without_its_package_tqc_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_contrib(name, *args, **kwargs):
        if name.split(".")[0] == "sb3_contrib":
            raise ModuleNotFoundError("No module named 'sb3_contrib'", name="sb3_contrib")
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "agents.tqc", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_contrib)
    with pytest.raises(ImportError, match="pip install sb3-contrib"):
        agents.make("tqc", Target())


@pytest.mark.slow
def test_importing_the_package_imports_no_optional_package():
    code = "import sys, agents; print('sb3_contrib' in sys.modules, 'fusion_env' in sys.modules)"  # in a fresh process
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout.split() == ["False", "False"]


def test_a_registered_id_will_do():
    gym.register("toy/Target-v0", Target)
    try:
        assert agents.make("constant", "toy/Target-v0", action=0.25).learn(6).num_timesteps == 6
    finally:
        del gym.registry["toy/Target-v0"]
