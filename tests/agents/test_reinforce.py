"""REINFORCE on environments whose returns and optima are known."""

import copy
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file, save_to_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import Reinforce, gradient_updates, make
from agents.reinforce import ReturnStatistics
from tests.agents.toy import Target, vector_env

PRESETS = ("reinforce", "reinforce-paper")
# Most runs here are too short to learn anything in.
pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


class Delayed(Target):
    """Two steps: the second reward is the product of both actions, the first is always 0."""

    def __init__(self) -> None:
        super().__init__(length=2, dims=1)
        self.first = 0.0

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, _, terminated, truncated, info = super().step(action)
        reward = self.first * float(action[0]) if truncated else 0.0
        self.first = float(action[0])
        return obs, reward, terminated, truncated, info


class Spy(ReturnStatistics):
    """Record the steps, the returns and the lengths of windows of an agent's updates."""

    def __init__(self, agent: Reinforce) -> None:
        super().__init__()
        self.agent, self.updated_at, self.updates = agent, [], []

    def advantages(self, returns, lengths):
        self.updated_at.append(self.agent.num_timesteps)
        self.updates.append(list(zip(returns.tolist(), lengths.tolist(), strict=True)))
        return super().advantages(returns, lengths)


def spied(env, **settings) -> tuple[Reinforce, Spy]:
    agent = Reinforce("MlpPolicy", env, seed=0, **settings)
    agent.statistics = Spy(agent)
    return agent, agent.statistics


def flat(agent: Reinforce) -> np.ndarray:
    """All parameters in one vector."""
    return agent.policy.parameters_to_vector()


class TestWindows:
    @settings(max_examples=15, deadline=None)
    @given(horizon=st.integers(1, 8), length=st.integers(1, 7), episodes=st.integers(1, 3))
    def test_returns_are_sums_of_the_next_rewards(self, horizon, length, episodes):
        env = Target(length)
        agent, spy = spied(env, horizon=horizon)
        agent.learn(length * episodes)
        expected = [
            sum(env.rewards[start + t : start + min(t + horizon, length)])
            for start in range(0, length * episodes, length)
            for t in range(length)
        ]
        assert [value for ((value, _),) in spy.updates] == pytest.approx(expected)
        assert gradient_updates(agent) == length * episodes

    def test_an_update_comes_with_the_last_reward_of_its_window(self):
        agent, spy = spied(Target(length=5), horizon=3)
        agent.learn(5)
        assert spy.updated_at == [3, 4, 5, 5, 5]
        assert [length for ((_, length),) in spy.updates] == [3, 3, 3, 2, 1]

    def test_environments_that_end_at_different_times_share_updates(self):
        env = DummyVecEnv([lambda: Target(2, constant=1.0), lambda: Target(3, constant=-1.0)])
        agent, spy = spied(env, horizon=2)
        agent.learn(6)
        assert spy.updates == [[(2.0, 2), (-2.0, 2)], [(1.0, 1)], [(-2.0, 2)], [(-1.0, 1)]]
        assert agent.num_timesteps == 6

    def test_equal_environments_make_one_update_a_step(self):
        agent = make("reinforce", vector_env(3), seed=0).learn(3 * 12)
        assert gradient_updates(agent) == 12

    def test_an_episode_cut_by_the_step_budget_keeps_its_windows(self):
        env = Target(length=8)
        agent, spy = spied(env, horizon=4)
        agent.learn(6)
        assert spy.updated_at == [4, 5, 6]
        agent.learn(2, reset_num_timesteps=False)
        assert spy.updated_at == [4, 5, 6, 7, 8, 8, 8, 8]
        sums = [sum(env.rewards[t : t + 4]) for t in range(8)]
        assert spy.updates == [[(pytest.approx(sums[t]), min(4, 8 - t))] for t in range(8)]

    def test_a_new_start_drops_the_waiting_windows(self):
        agent = Reinforce("MlpPolicy", Target(length=8), horizon=4, seed=0).learn(6).learn(8)
        assert gradient_updates(agent) == 3 + 8

    def test_split_learning_equals_whole_learning(self):
        whole = make("reinforce", Target(), seed=3).learn(20)
        split = make("reinforce", Target(), seed=3).learn(7)
        split.learn(13, reset_num_timesteps=False)
        np.testing.assert_array_equal(flat(whole), flat(split))


class TestGradient:
    def test_one_update_is_gradient_ascent_on_return_times_log_probability(self):
        env = Target(length=1, constant=2.0)
        agent = Reinforce("MlpPolicy", env, horizon=5, learning_rate=0.01, seed=0)
        before = copy.deepcopy(agent.policy)
        seen = {}
        agent.learn(1, callback=lambda local, _: seen.update(local) is None)
        obs, action = torch.as_tensor(seen["obs"]), torch.as_tensor(seen["actions"])
        (2.0 * before.distribution(obs).log_prob(action).sum()).backward()
        for old, new in zip(before.parameters(), agent.policy.parameters(), strict=True):
            torch.testing.assert_close(new, old + 0.01 * old.grad)

    def test_a_detached_sample_moves_the_mean_and_a_reparameterised_one_does_not(self):
        agent = Reinforce("MlpPolicy", Target(), seed=0)
        normal = agent.policy.distribution(torch.ones(1, 3))
        noise = torch.tensor([[0.3, -1.0]])
        sample = normal.mean + normal.stddev * noise
        (score,) = torch.autograd.grad(
            normal.log_prob(sample.detach()).sum(), agent.policy.head.bias, retain_graph=True
        )
        (pathwise,) = torch.autograd.grad(normal.log_prob(sample).sum(), agent.policy.head.bias)
        assert (score[:2] * noise[0] > 0).all(), "the mean must move towards the sample"
        assert (pathwise[:2] == 0).all()
        assert (pathwise[2:] < 0).all(), "only the standard deviation has a pathwise gradient: -1/std"

    def test_every_parameter_learns(self):
        agent = make("reinforce", Target(), seed=0)
        before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
        agent.learn(30)
        assert all((a != b).any() for a, b in zip(before, agent.policy.parameters(), strict=True))

    def test_gradient_clipping_bounds_a_step(self):
        agent = Reinforce("MlpPolicy", Target(1, constant=1e4), learning_rate=1.0, max_grad_norm=0.5, seed=0)
        before = flat(agent)
        agent.learn(1)
        assert np.linalg.norm(flat(agent) - before) == pytest.approx(0.5, rel=1e-3)

    def test_entropy_bonus_widens_the_policy(self):
        agent = Reinforce("MlpPolicy", Target(5, constant=0.0), ent_coef=0.1, seed=0)
        obs = torch.ones(1, 3)
        before = agent.policy.distribution(obs).stddev
        agent.learn(20)
        assert (agent.policy.distribution(obs).stddev > before).all()


class TestStatistics:
    def test_baseline_is_the_mean_of_earlier_rewards(self):
        statistics = ReturnStatistics(baseline=True, decay=0.5)
        first = statistics.advantages(np.array([2.0]), np.array([2]))
        second = statistics.advantages(np.array([4.0]), np.array([2]))
        third = statistics.advantages(np.array([1.0]), np.array([1]))
        # Weighted means of the rewards per step 1 and 2: (1 * 0.25 + 2 * 0.5) / 0.75 = 5/3.
        assert [first[0], second[0], third[0]] == pytest.approx([0.0, 2.0, 1.0 - 5 / 3])

    def test_normalised_returns_do_not_depend_on_the_reward_scale(self):
        values = np.random.default_rng(0).normal(size=20)
        results = []
        for scale in (1.0, 1000.0):
            statistics = ReturnStatistics(baseline=True, normalize=True)
            results.append([statistics.advantages(np.array([scale * v]), np.array([3]))[0] for v in values])
        np.testing.assert_allclose(*results, atol=1e-6)

    def test_constant_rewards_have_no_advantage(self):
        statistics = ReturnStatistics(baseline=True, normalize=True)
        values = [statistics.advantages(np.array([-0.2 * n]), np.array([n]))[0] for n in (5, 5, 5, 4, 3, 2, 1) * 50]
        assert np.abs(values).max() < 1e-6

    def test_switched_off_it_changes_nothing(self):
        returns = np.array([3.0, -7.0])
        np.testing.assert_array_equal(ReturnStatistics().advantages(returns, np.array([5, 5])), returns)


class TestLearning:
    @pytest.mark.parametrize(
        ("name", "overrides"),
        [
            ("reinforce", {"learning_rate": 0.01}),
            ("reinforce", {"learning_rate": 0.001, "optimizer": "adam"}),
            ("reinforce-paper", {"learning_rate": 0.005}),
        ],
    )
    def test_solves_a_one_step_bandit(self, name, overrides):
        env = Target(length=1)
        agent = make(name, env, seed=0, **overrides).learn(600)
        action, _ = agent.predict(np.array([1.0, 0.0, -1.0], np.float32), deterministic=True)
        assert np.abs(action - env.optimum).max() < 0.25

    def test_tuned_preset_improves_within_fifty_steps(self):
        errors = []
        for seed in range(6):
            env = Target(length=50)
            agent = make("reinforce", env, seed=seed).learn(50)
            action, _ = agent.predict(np.array([1.0, 0.0, -1.0], np.float32), deterministic=True)
            errors.append(np.sum((action - env.optimum) ** 2))
        assert np.mean(errors) < 0.7 * np.sum(env.optimum**2)

    def test_credits_a_first_action_for_a_later_reward(self):
        agent = make("reinforce", Delayed(), seed=0, initial_mean=0.3).learn(600)
        first, _ = agent.predict(np.array([1.0, 0.0, -1.0], np.float32), deterministic=True)
        second, _ = agent.predict(np.array([1.0, 0.5, -1.0], np.float32), deterministic=True)
        assert first[0] * second[0] > 0.5

    @pytest.mark.parametrize("name", PRESETS)
    @pytest.mark.parametrize("constant", [-0.2, pytest.param(0.2, marks=pytest.mark.slow)])
    def test_a_thousand_constant_rewards_leave_a_finite_policy(self, name, constant):
        agent = make(name, Target(100, constant=constant, dims=7), seed=0).learn(1000)
        assert np.isfinite(flat(agent)).all()
        assert np.abs(flat(agent)).max() < 1000

    def test_a_loop_of_constant_rewards_leaves_the_tuned_mean_in_place(self):
        agent = make("reinforce", Target(100, constant=-0.2), seed=0, initial_mean=0.4).learn(300)
        action, _ = agent.predict(np.ones(3, np.float32), deterministic=True)
        np.testing.assert_allclose(action, 0.4, atol=0.1)


class TestRandomness:
    def test_same_seed_same_agent(self):
        first, second, other = (make("reinforce", Target(), seed=seed).learn(25) for seed in (5, 5, 6))
        np.testing.assert_array_equal(flat(first), flat(second))
        assert (flat(first) != flat(other)).any()

    def test_without_seed_agents_differ(self):
        assert (flat(make("reinforce", Target())) != flat(make("reinforce", Target()))).any()

    def test_global_random_state_is_neither_read_nor_set(self):
        def states() -> tuple:
            return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

        before = states()
        agent = make("reinforce", vector_env(2), seed=0).learn(24)
        agent.predict(np.zeros(3, np.float32))
        agent.set_random_seed(1)
        make("reinforce", Target()).learn(3)
        assert states() == before

    def test_predictions_do_not_disturb_learning(self):
        plain = make("reinforce", Target(), seed=0).learn(20)
        agent = make("reinforce", Target(), seed=0).learn(10)
        draws = [agent.predict(np.zeros(3, np.float32))[0] for _ in range(2)]
        assert (draws[0] != draws[1]).any()
        agent.learn(10, reset_num_timesteps=False)
        np.testing.assert_array_equal(flat(plain), flat(agent))

    def test_set_random_seed_restarts_the_streams(self):
        agent = make("reinforce", Target(), seed=0)
        first = agent.predict(np.zeros(3, np.float32))[0]
        agent.set_random_seed(0)
        np.testing.assert_array_equal(agent.predict(np.zeros(3, np.float32))[0], first)


class TestSaveLoad:
    @pytest.mark.parametrize("name", PRESETS)
    @pytest.mark.parametrize("steps", [1, 4, 6, 9])
    def test_continues_exactly_in_the_middle_of_an_episode(self, name, steps, tmp_path):
        agent = make(name, vector_env(2), seed=0).learn(2 * steps)
        agent.save(tmp_path / "agent.zip")
        env = copy.deepcopy(agent.get_env())
        agent.learn(30, reset_num_timesteps=False).learn(12)
        loaded = Reinforce.load(tmp_path / "agent.zip", env=env, force_reset=False)
        loaded.learn(30, reset_num_timesteps=False)
        loaded.learn(12)
        np.testing.assert_array_equal(flat(agent), flat(loaded))
        assert gradient_updates(agent) == gradient_updates(loaded)
        assert agent.statistics == loaded.statistics
        obs = np.ones(3, np.float32)
        np.testing.assert_array_equal(agent.predict(obs)[0], loaded.predict(obs)[0])

    def test_a_checkpoint_written_inside_a_step_continues_exactly(self, tmp_path):
        class Snapshot(BaseCallback):
            def _on_step(self) -> bool:
                if self.num_timesteps == 7:
                    self.model.save(tmp_path / "agent.zip")
                    self.env = copy.deepcopy(self.training_env)
                return True

        snapshot = Snapshot()
        agent = make("reinforce", Target(), seed=0).learn(20, callback=snapshot)
        loaded = Reinforce.load(tmp_path / "agent.zip", env=snapshot.env, force_reset=False)
        loaded.learn(13, reset_num_timesteps=False)
        np.testing.assert_array_equal(flat(agent), flat(loaded))

    def test_a_fresh_environment_drops_the_waiting_windows(self, tmp_path):
        make("reinforce", Target(), seed=0).learn(8).save(tmp_path / "agent.zip")
        loaded = Reinforce.load(tmp_path / "agent.zip", env=vector_env(3))
        loaded.learn(3 * 6, reset_num_timesteps=False)
        assert gradient_updates(loaded) == 6 + 6
        assert loaded.num_timesteps == 8 + 18

    def test_without_environment_it_predicts(self, tmp_path):
        agent = make("reinforce", Target(), seed=0).learn(8)
        agent.save(tmp_path / "agent.zip")
        obs = np.ones(3, np.float32)
        loaded = Reinforce.load(tmp_path / "agent.zip")
        np.testing.assert_array_equal(
            agent.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
        )

    def test_parameters_travel_between_agents(self):
        source, target = make("reinforce", Target(), seed=0), make("reinforce", Target(), seed=1)
        assert set(source.get_parameters()) == {"policy", "policy.optimizer"}
        target.set_parameters(source.get_parameters())
        np.testing.assert_array_equal(flat(source), flat(target))
        parameters = source.get_parameters()
        del parameters["policy"]["head.bias"]
        with pytest.raises(RuntimeError, match=r"head\.bias"):
            target.set_parameters(parameters)

    def test_refuses_another_format(self, tmp_path):
        make("reinforce", Target(), seed=0).save(tmp_path / "agent.zip")
        data, *others = load_from_zip_file(tmp_path / "agent.zip")
        save_to_zip_file(tmp_path / "agent.zip", data | {"_format_version": 99}, *others)
        with pytest.raises(ValueError, match="format 99"):
            Reinforce.load(tmp_path / "agent.zip")


class TestErrors:
    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("horizon", 0),
            ("optimizer", "rmsprop"),
            ("statistics_decay", 1.0),
            ("ent_coef", -0.1),
            ("max_grad_norm", 0.0),
            ("initial_std", 1.5),
            ("initial_mean", [0.0, 0.0, 0.0]),
            ("initial_mean", float("nan")),
            ("policy_kwargs", {"net_arch": (0,)}),
        ],
    )
    def test_settings_out_of_range(self, setting, value):
        name = "net_arch" if setting == "policy_kwargs" else setting
        with pytest.raises(ValueError, match=name):
            Reinforce("MlpPolicy", Target(), **{setting: value})

    @pytest.mark.parametrize("attribute", ["action_space", "observation_space"])
    def test_spaces_must_be_boxes(self, attribute):
        env = Target()
        setattr(env, attribute, gym.spaces.Discrete(3))
        with pytest.raises(ValueError, match=f"{attribute} must be a Box"):
            Reinforce("MlpPolicy", env)
