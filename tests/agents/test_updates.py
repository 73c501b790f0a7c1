"""What counts as an update of a policy, for algorithms of this package and of others."""

from types import SimpleNamespace

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes

import agents
from tests.agents.toy import Target, Walk

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*expect no learning"),
    pytest.mark.filterwarnings("ignore:.*truncated mini-batch"),
]
CONTRIB = [
    ("TRPO", "MlpPolicy", {"n_steps": 10, "batch_size": 5}, 4),
    ("RecurrentPPO", "MlpLstmPolicy", {"n_steps": 10, "batch_size": 5, "n_epochs": 3}, 4 * 3 * 2),
    ("CrossQ", "MlpPolicy", {"learning_starts": 4, "policy_delay": 3}, 36 // 3),
    ("TQC", "MlpPolicy", {"learning_starts": 4}, 36),
    ("ARS", "LinearPolicy", {"n_delta": 2}, 2),
]


class Looks(agents.CompleteStateCallback):
    """Look whenever the agent's state is complete, as a run does."""

    def _on_training_start(self) -> None:
        self.counter = agents.UpdateCounter(self.model)

    def on_complete_state(self) -> None:
        self.counter.look(self.model)


@pytest.mark.parametrize(
    ("name", "policy", "settings", "expected"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] == "CrossQ" else ()) for case in CONTRIB],
)
def test_algorithms_of_sb3_contrib(name, policy, settings, expected):
    contrib = pytest.importorskip("sb3_contrib")
    looks = Looks()
    agent = getattr(contrib, name)(policy, Walk(10), seed=0, **settings)
    assert agents.gradient_updates(agent) == 0
    agent.learn(40 if name != "ARS" else 80, callback=looks)
    assert agents.gradient_updates(agent) == looks.counter.count == expected
    assert agents.planned_updates(agent, agent.num_timesteps, episode_steps=10) == expected


def test_a_line_search_that_finds_nothing_is_no_update():
    contrib = pytest.importorskip("sb3_contrib")
    looks = Looks()
    contrib.TRPO("MlpPolicy", Walk(), n_steps=10, batch_size=5, line_search_max_iter=0, seed=0).learn(40, looks)
    assert looks.counter.count == 0


@pytest.mark.parametrize("name", ["ppo", "a2c", "sac", "td3", "reinforce"])
def test_steps_of_length_zero_are_no_updates(name):
    looks = Looks()
    agent = agents.make(name, Walk(), learning_rate=lambda _: 0.0, seed=0).learn(20, callback=looks)
    assert agents.gradient_updates(agent) > 0
    assert looks.counter.count == 0


def test_an_advantage_of_zero_is_no_update():
    looks = Looks()
    agents.make("reinforce-paper", Target(constant=0.0), seed=0).learn(12, callback=looks)
    assert looks.counter.count == 0


@pytest.mark.parametrize("name", ["ppo", "a2c", "sac", "td3", "reinforce", "random", "random-search"])
def test_where_every_step_moves_both_counts_are_the_same(name):
    looks = Looks()
    agent = agents.make(name, Walk(), seed=0).learn(42, callback=looks)
    assert looks.counter.count == agents.gradient_updates(agent) == (agents.planned_updates(agent, 42) or 0)


def test_an_actor_that_waits_for_its_critic_was_not_updated():
    agent = stable_baselines3.TD3("MlpPolicy", Walk(), learning_starts=4, policy_delay=100).learn(20)
    assert agent._n_updates == 16
    assert agents.gradient_updates(agent) == 0


def test_optimisers_without_a_counter():
    settings = {"policy_kwargs": {"optimizer_class": torch.optim.SGD}}
    assert agents.gradient_updates(agents.make("a2c", Walk(), seed=0, **settings).learn(40)) == 8


def test_states_of_jax():
    """SBX keeps parameters and the number of steps in `policy.actor_state`, and neither counts in `n_updates`."""
    state = SimpleNamespace(step=np.int32(0), params={"params": {"kernel": np.zeros(3), "bias": np.ones(2)}})
    model = SimpleNamespace(policy=SimpleNamespace(actor_state=state), _n_updates=99)
    counter = agents.UpdateCounter(model)
    state.step, state.params = 2, {"params": {"bias": np.ones(2), "kernel": np.zeros(3)}}
    counter.look(model)
    assert (agents.gradient_updates(model), counter.count) == (2, 0)
    state.step, state.params = 5, {"params": {"bias": np.ones(2), "kernel": np.ones(3)}}
    counter.look(model)
    assert (agents.gradient_updates(model), counter.count) == (5, 3)


@pytest.mark.parametrize(
    ("name", "policy", "settings"),
    [
        ("PPO", "MlpPolicy", {"n_steps": 10, "batch_size": 5}),
        ("SAC", "MlpPolicy", {"learning_starts": 4}),
        ("TD3", "MlpPolicy", {"learning_starts": 4}),
        ("CrossQ", "MlpPolicy", {"learning_starts": 4}),
    ],
)
def test_algorithms_of_sbx(name, policy, settings):
    sbx = pytest.importorskip("sbx")
    looks = Looks()
    agent = getattr(sbx, name)(policy, Walk(), seed=0, **settings).learn(20, callback=looks)
    assert agents.gradient_updates(agent) == looks.counter.count == agents.planned_updates(agent, 20) > 0


class StopAt(BaseCallback):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        return self.num_timesteps < self.at


@pytest.mark.parametrize(
    ("name", "total", "expected"),
    [("ppo", 10, 10), ("ppo", 500, 500), ("a2c", 100, 20), ("sac", 24, 80), ("td3", 100, 192)],
)
def test_a_stop_at_the_last_step_leaves_the_update_that_is_due(name, total, expected):
    env = Walk()
    agent = agents.make(name, env, seed=0).learn(total, callback=StopAt(total))
    assert agents.gradient_updates(agent) == agents.planned_updates(agent, total) == expected
    assert len(env.log) == agent.num_timesteps == total


def test_a_stop_at_the_last_step_is_the_same_as_none():
    stopped = agents.make("sac", Walk(), seed=0).learn(21, callback=StopTrainingOnMaxEpisodes(3))
    free = agents.make("sac", Walk(), seed=0).learn(21)
    for mine, other in zip(stopped.policy.parameters(), free.policy.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_an_earlier_stop_stops_at_once():
    env = Walk()
    agent = agents.make("sac", env, seed=0).learn(40, callback=StopAt(14))
    assert agent.num_timesteps == len(env.log) == 14
