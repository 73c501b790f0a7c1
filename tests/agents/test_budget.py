"""Exactly the steps asked for, and settings that fit them."""

import warnings

import pytest
import stable_baselines3
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from agents.budget import rollout_length
from tests.agents.toy import Walk

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*expect no learning"),
    pytest.mark.filterwarnings("ignore:.*truncated mini-batch"),
]


class Counted(Walk):
    """Refuse more steps than announced."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def step(self, action):
        assert len(self.log) < self.limit
        return super().step(action)


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 500), longest=st.integers(1, 60))
def test_rollouts_are_few_equal_and_exact(steps, longest):
    lengths, left = [], steps
    while left:
        lengths.append(rollout_length(left, longest))
        left -= lengths[-1]
    assert sum(lengths) == steps
    assert len(lengths) == -(-steps // longest)
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("name", ["ppo", "a2c"])
@pytest.mark.parametrize(("total", "environments"), [(25, 1), (31, 1), (50, 2)])
def test_on_policy_runs_exactly_the_steps(name, total, environments):
    limit = total // environments
    env = DummyVecEnv([lambda: Counted(limit) for _ in range(environments)])
    agent = agents.make(name, env, seed=0).learn(total)
    assert agent.num_timesteps == total
    assert all(len(one.log) == limit for one in env.envs)
    assert all(parameter.isfinite().all() for parameter in agent.policy.parameters())


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_where_the_rollouts_fit_it_is_the_algorithm_of_stable_baselines(name):
    ours = agents.make(name, Walk(), seed=0).learn(40)
    theirs = getattr(stable_baselines3, name.upper())(env=Walk(), seed=0, **agents.hyperparams(name)).learn(40)
    for mine, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("name", "overrides", "environments", "total", "message"),
    [
        ("ppo", {"n_steps": 64}, 1, 30, r"n_steps must be at most 30 .* Got 64"),
        ("a2c", {"n_steps": 20}, 2, 30, r"n_steps must be at most 15 .* Got 20"),
        ("ppo", {}, 2, 25, r"multiple of 2 .* Got 25; 24 or 26"),
        ("reinforce", {}, 2, 25, r"Got 25; 24 or 26"),
        ("constant", {}, 3, 2, r"Got 2; 3 would do"),
        ("sac", {"learning_starts": 10}, 1, 40, r"learning_starts .* Got 10; set at most 9"),
        ("td3", {"learning_starts": 100}, 1, 50, r"set at most 12"),
        ("sac", {"gradient_steps": 0}, 1, 40, "gradient_steps must not be 0"),
        ("sac", {"train_freq": (1, "episode")}, 1, 40, "train_freq must be a number of steps"),
        ("sac", {"train_freq": 3}, 1, 40, r"multiple of 3 .* Got 40; 39 or 42"),
        ("sac", {"train_freq": 0}, 1, 40, "train_freq must be 1 or more"),
        ("sac", {"batch_size": 0}, 1, 40, "batch_size must be 1 or more"),
        ("td3", {"policy_delay": 0}, 1, 40, "policy_delay must be 1 or more"),
        ("ppo", {"n_epochs": 0}, 1, 40, "n_epochs must be 1 or more"),
        ("a2c", {"n_steps": 0}, 1, 40, "n_steps must be 1 or more"),
        ("a2c", {"n_steps": 2}, 1, 25, "rollout of 1"),
        ("td3", {"policy_delay": 200}, 1, 40, r"policy_delay must be at most 144.* Got 200"),
        ("sac", {"learning_rate": 0.0}, 1, 40, "learning_rate must be above 0"),
        ("reinforce", {"learning_rate": 0.0}, 1, 40, "learning_rate must be above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_first_step(name, overrides, environments, total, message):
    env = DummyVecEnv([Walk for _ in range(environments)])
    agent = agents.make(name, env, **overrides)
    with pytest.raises(ValueError, match=message):
        agent.learn(total)
    with pytest.raises(ValueError, match=message):
        agents.check_budget(agent, total)
    assert not any(one.log for one in env.envs)


def test_an_algorithm_that_rounds_up_is_refused():
    agent = stable_baselines3.PPO("MlpPolicy", Walk(), n_steps=10, batch_size=10)
    agents.check_budget(agent, 30)
    with pytest.raises(ValueError, match=r"multiple of 10 .* Got 25; 20 or 30"):
        agents.check_budget(agent, 25)


def make_contrib(name, policy, env, **settings):
    contrib = pytest.importorskip("sb3_contrib")
    return getattr(contrib, name)(policy, env, **settings)


@pytest.mark.parametrize(
    ("name", "policy", "settings", "total", "message"),
    [
        ("TRPO", "MlpPolicy", {}, 100, r"n_steps must be at most 100 .* Got 2048"),
        ("TRPO", "MlpPolicy", {"n_steps": 30, "batch_size": 30}, 100, r"multiple of 30 .* Got 100; 90 or 120"),
        ("RecurrentPPO", "MlpLstmPolicy", {}, 100, r"n_steps must be at most 100 .* Got 128"),
        ("CrossQ", "MlpPolicy", {"learning_starts": 100}, 100, r"learning_starts .* Got 100; set at most 24"),
        ("CrossQ", "MlpPolicy", {"learning_starts": 4, "policy_delay": 97}, 100, "policy_delay must be at most 96"),
        ("ARS", "LinearPolicy", {}, 100, r"16 episodes of 10 steps .* Got 100; 160 would do"),
        ("ARS", "LinearPolicy", {"n_delta": 2, "n_eval_episodes": 2}, 100, r"8 episodes of 10 steps .* 80 or 160"),
        ("ARS", "LinearPolicy", {"n_delta": 2, "learning_rate": 0.0}, 80, "learning_rate must be above 0"),
        ("ARS", "LinearPolicy", {"n_delta": 0}, 80, "n_delta must be 1 or more"),
    ],
)
def test_other_packages_are_judged_by_their_own_numbers(name, policy, settings, total, message):
    agent = make_contrib(name, policy, Walk(10), **settings)
    with pytest.raises(ValueError, match=message):
        agents.check_budget(agent, total, episode_steps=10)


def test_ars_without_the_length_of_an_episode_is_let_through():
    agents.check_budget(make_contrib("ARS", "LinearPolicy", Walk(10)), 100)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("ppo", {"n_steps": 10}, 9),  # rollouts of 9, 8 and 8
        ("a2c", {}, 5),
        ("sac", {"learning_starts": 4}, 5),
        ("sac", {"learning_starts": 4, "train_freq": 5}, 5),
        ("td3", {"learning_starts": 4, "gradient_steps": 1, "policy_delay": 3}, 7),
        ("reinforce", {"horizon": 3}, 3),
        ("reinforce", {"horizon": 12}, 10),
        ("random", {}, None),
    ],
)
def test_the_first_update(name, settings, expected):
    agent = agents.make(name, Walk(10), seed=0, **settings)
    assert agents.steps_to_first_update(agent, 25, episode_steps=10) == expected
    if expected is None:
        return
    moments = []

    class Watch(agents.CompleteStateCallback):
        def on_complete_state(self) -> None:
            if agents.gradient_updates(self.model):
                moments.append(self.num_timesteps)

    agent.learn(25, callback=Watch())
    assert moments[0] == expected


def test_a_horizon_that_is_longer_than_there_are_steps_is_warned_about():
    agent = agents.make("reinforce", Walk(10), horizon=20)
    with pytest.warns(UserWarning, match=r"horizon=20 is more than 10 steps: .* only when an episode ends"):
        agents.check_budget(agent, 40, episode_steps=10)
    with pytest.warns(UserWarning, match=r"horizon=20 is more than 15 steps"):
        agent.learn(15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(20)


def test_the_nearest_learning_starts_will_do():
    agents.make("sac", Walk(), learning_starts=9).learn(40)
    agents.make("ppo", Walk(), n_steps=30).learn(30)


def test_a_part_is_judged_as_the_whole():
    agent = agents.make("ppo", Walk()).learn(20)
    assert agent.learn(3, reset_num_timesteps=False).num_timesteps == 23
    with pytest.raises(ValueError, match="n_steps"):
        agent.learn(3)


def test_few_updates_are_warned_about():
    with pytest.warns(UserWarning, match="A2C makes 5 gradient updates in 25 steps"):
        agents.make("a2c", Walk()).learn(25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a2c", "ppo", "reinforce", "constant", "random-search"):
            agents.make(name, Walk()).learn(50)


@pytest.mark.parametrize("environments", [1, 2])
@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("reinforce", {}, (42, 21)),
        ("reinforce", {"optimizer": "adam"}, (42, 21)),
        ("ppo", {"n_steps": 10, "batch_size": 10, "n_epochs": 3}, (5 * 3, 3 * 3 * 2)),
        ("ppo", {"n_steps": 7, "batch_size": 4, "n_epochs": 2}, (6 * 2 * 2, 3 * 2 * 4)),
        ("a2c", {"n_steps": 5}, (9, 5)),
        ("sac", {"learning_starts": 4, "gradient_steps": 3}, (38 * 3, 19 * 3)),
        ("sac", {"learning_starts": 5, "gradient_steps": -1, "train_freq": 3}, (13 * 3, 7 * 6)),
        ("td3", {"learning_starts": 4, "gradient_steps": 3, "policy_delay": 2}, (38 * 3 // 2, 19 * 3 // 2)),
        ("random", {}, (0, 0)),
        ("random-search", {}, (0, 0)),
    ],
)
def test_gradient_updates_by_hand(name, overrides, expected, environments):
    env = DummyVecEnv([Walk for _ in range(environments)])
    agent = agents.make(name, env, seed=0, **overrides)
    assert agents.gradient_updates(agent) == 0
    agent.learn(42)
    assert agents.gradient_updates(agent) == expected[environments - 1]
    assert (agents.planned_updates(agent, 42) or 0) == expected[environments - 1]


def test_gradient_updates_count_optimiser_steps():
    agent = agents.make("ppo", Walk(), target_kl=1e-9, seed=0)
    steps = []
    agent.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    agent.learn(40)
    assert agents.gradient_updates(agent) == len(steps) < agents.planned_updates(agent, 40)
