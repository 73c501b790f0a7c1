"""Whatever the caller has set, an agent learns and acts in the same way."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from tests.agents.toy import Walk, monitored_walk


@contextmanager
def _default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CALLERS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": _default_dtype,
    "device": lambda: torch.device("meta"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "reinforce": {"horizon": 2},
    "ppo": {"n_steps": 7, "batch_size": 7},
    "sac": {"learning_starts": 3},
}


def learn(name: str) -> BaseAlgorithm:
    return agents.make(name, monitored_walk(), seed=0, **SETTINGS[name]).learn(14)


def weights(agent: BaseAlgorithm) -> np.ndarray:
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in agent.policy.state_dict().values()])


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", SETTINGS)
def test_learning_and_acting(name: str, caller: str) -> None:
    observation = np.array([0.3, -0.2, 0.5], np.float32)
    expected = learn(name)
    action = expected.predict(observation, deterministic=True)[0]
    with CALLERS[caller]():
        agent = learn(name)
        np.testing.assert_array_equal(weights(agent), weights(expected))
        np.testing.assert_array_equal(agent.predict(observation, deterministic=True)[0], action)
        file = io.BytesIO()
        agents.save_state(agent, file)
        file.seek(0)
        loaded = agents.load_state(name, file, agent.env)
    loaded.learn(7, reset_num_timesteps=False)
    assert (weights(loaded) != weights(expected)).any()


def plans() -> np.ndarray:
    env = DummyVecEnv([Walk])
    agent = agents.make("planner", env, seed=0, execute=1, foresight=False)
    env.reset()
    actions, state = [], None
    for _ in range(3):
        action, state = agent.plan(env, state)
        env.step(action)
        actions.append(action)
    return np.concatenate(actions)


@pytest.mark.parametrize("caller", CALLERS)
def test_planning_and_drawing(caller: str) -> None:
    def drawn() -> np.ndarray:
        return agents.make("random", monitored_walk(), seed=0).predict(np.zeros((4, 3), np.float32))[0]

    expected, actions = plans(), drawn()
    with CALLERS[caller]():
        np.testing.assert_array_equal(plans(), expected)
        np.testing.assert_array_equal(drawn(), actions)
