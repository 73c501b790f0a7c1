"""Learners that are compared begin with the same actions."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from agents.first_policy import squashed_std
from experiments.running.policies import policy_setup
from fusion_env.action import ACTION_SIZE, even_action
from fusion_env.config import preset
from tests.agents.toy import Walk

COPIES = 200
MEAN = even_action(0.25, guidance=0.9)
LEARNERS = ("reinforce", "reinforce-paper", "ppo", "a2c", "sac", "td3", "tqc")


class Taken(Exception):
    """Carries the first actions out of `learn`."""


class Wide(gymnasium.Env):
    """Observations of every size, and nothing happens."""

    observation_space = spaces.Box(-5, 5, (4,), np.float32)
    action_space = spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-5, 5, 4).astype(np.float32), {}

    def step(self, action):
        raise NotImplementedError


class Copies(DummyVecEnv):
    def step_async(self, actions):
        raise Taken(actions)


def first_actions(name: str, seed: int = 0) -> np.ndarray:
    """Return what a learner does in the first step of `learn`, in many environments beside each other [E, A]."""
    if name == "tqc":
        pytest.importorskip("sb3_contrib")
    setup = policy_setup(name, preset("tiny"))
    env = Copies([Wide] * COPIES)
    agent = agents.make(name, env, seed=seed, **setup.settings)
    with pytest.raises(Taken) as caught:
        agent.learn(COPIES * 100)
    return caught.value.args[0]


@pytest.mark.parametrize("name", LEARNERS)
def test_all_learners_begin_alike(name: str) -> None:
    wanted = np.clip(MEAN + 0.5 * np.random.default_rng(0).normal(size=(100_000, 1)), -1, 1)
    actions = first_actions(name)
    # The error of a mean of 200 is 0.035, and a tanh bends what is near a bound.
    np.testing.assert_allclose(actions.mean(axis=0), wanted.mean(axis=0), atol=0.12)
    np.testing.assert_allclose(actions.std(axis=0), wanted.std(axis=0), atol=0.09)
    assert not (actions[0] == actions[1]).all()


@pytest.mark.parametrize("name", ["ppo", "sac", "td3", "tqc"])
def test_what_they_would_do_without_exploring_is_the_mean(name: str) -> None:
    agent = agents.make(name, Wide(), seed=1, initial_mean=[0.5, -0.5, 0, 0, 0, 0, 0.9])
    for observation in ([5, -5, 5, -5], [0, 0, 0, 0]):
        action, _ = agent.predict(np.array(observation, np.float32), deterministic=True)
        np.testing.assert_allclose(action, [0.5, -0.5, 0, 0, 0, 0, 0.9], atol=0.05)


def test_spread_of_squashed_actions() -> None:
    mean, z = torch.tensor([0.0, -0.5, 0.9]), torch.randn(100_000, 1)
    before = squashed_std(mean, 0.5)
    squashed = torch.tanh(torch.atanh(mean) + before * z)
    torch.testing.assert_close(squashed.std(dim=0), (mean + 0.5 * z).clamp(-1, 1).std(dim=0), atol=0.01, rtol=0)


def test_a_start_outlives_its_file(tmp_path) -> None:
    agent = agents.make("sac", Walk(), seed=0, initial_mean=0.5, learning_starts=1).learn(8)
    agent.save(tmp_path / "agent.zip")
    loaded = agents.algorithm("sac").load(tmp_path / "agent.zip")
    observation = np.zeros(Walk().observation_space.shape, np.float32)
    assert loaded.initial_mean == 0.5
    one, other = (model.predict(observation, deterministic=True)[0] for model in (agent, loaded))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ppo", {"initial_mean": 1.0}, "strictly inside"),
        ("sac", {"initial_mean": [0.0, 0.0]}, "one number or 7"),
        ("a2c", {"initial_std": 0.0}, "above 0"),
        ("td3", {"initial_std": 0.5}, "action_noise"),
        ("ppo", {"initial_mean": 0.0, "use_sde": True}, "use_sde=False"),
    ],
)
def test_starts_that_are_refused(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(name, Wide(), **settings)
