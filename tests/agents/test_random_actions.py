"""Random actions, and the best of them."""

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from tests.agents.toy import Target, Walk

OBS = np.zeros(3, np.float32)


class TestRandom:
    def test_uniform_and_seeded(self):
        logs = []
        for seed in (0, 0, 1):
            env = Walk(low=-2, high=4)
            agents.make("random", env, seed=seed).learn(600)
            logs.append(np.array(env.log))
        np.testing.assert_array_equal(logs[0], logs[1])
        assert (logs[0] != logs[2]).any()
        np.testing.assert_allclose(
            np.quantile(logs[0], [0.25, 0.5, 0.75], axis=0).mean(axis=1), [-0.5, 1, 2.5], atol=0.3
        )

    def test_predictions_differ_and_do_not_disturb_learning(self):
        envs = [Walk(), Walk()]
        first, second = (agents.make("random", env, seed=0) for env in envs)
        draws = [first.predict(OBS, deterministic=True)[0] for _ in range(2)]
        assert (draws[0] != draws[1]).any()
        assert first.predict(np.zeros((4, 3)))[0].shape == (4, 2)
        first.learn(8)
        second.learn(8)
        np.testing.assert_array_equal(envs[0].log, envs[1].log)

    def test_set_random_seed_restarts_it(self):
        agent = agents.make("random", Walk(), seed=3)
        first = agent.predict(OBS)[0]
        agent.set_random_seed(3)
        np.testing.assert_array_equal(agent.predict(OBS)[0], first)


class TestRandomSearch:
    def test_keeps_the_best_finished_episode(self):
        env = Target(length=4)
        agent = agents.make("random-search", env, seed=0).learn(43)
        actions, rewards = np.array(env.actions[:40]).reshape(10, 4, 2), np.array(env.rewards[:40]).reshape(10, 4)
        assert (actions == actions[:, :1]).all(), "one action for each episode"
        assert len(np.unique(actions[:, 0], axis=0)) == 10
        best = int(rewards.mean(axis=1).argmax())
        np.testing.assert_array_equal(agent.predict(OBS, deterministic=True)[0], actions[best, 0])
        assert agent.best_reward == pytest.approx(rewards[best].mean())
        assert agent.episodes == 10

    def test_the_mean_counts_not_the_sum(self):
        env = DummyVecEnv([lambda: Target(2, constant=-1.0), lambda: Target(8, constant=-0.5)])
        agent = agents.make("random-search", env, seed=0).learn(16)
        assert agent.best_reward == -0.5
        assert agent.episodes == 4 + 1
        np.testing.assert_array_equal(agent.best_action, env.envs[1].actions[0])

    def test_before_the_first_finished_episode_it_is_the_centre(self):
        agent = agents.make("random-search", Walk(low=1, high=3)).learn(3)
        assert agent.best_action is None
        assert agent.predict(OBS)[0].tolist() == [2, 2]
        assert agent.predict(np.zeros((2, 3)))[0].tolist() == [[2, 2], [2, 2]]

    def test_a_cut_episode_is_finished_by_the_next_call(self):
        whole, split = Target(length=4), Target(length=4)
        first = agents.make("random-search", whole, seed=0).learn(20)
        second = agents.make("random-search", split, seed=0).learn(6).learn(14, reset_num_timesteps=False)
        np.testing.assert_array_equal(whole.actions, split.actions)
        assert first.best_reward == second.best_reward

    def test_a_new_start_keeps_the_best_and_drops_the_cut_episode(self):
        env = Target(length=4)
        agent = agents.make("random-search", env, seed=0).learn(6)
        best = agent.best_reward
        agent.learn(4)
        assert agent.episodes == 2
        assert agent.best_reward >= best
        assert agent.best_reward in (best, pytest.approx(np.mean(env.rewards[-4:])))

    def test_finds_a_good_action(self):
        env = Target(length=1)
        agent = agents.make("random-search", env, seed=0).learn(400)
        assert np.abs(agent.predict(OBS)[0] - env.optimum).max() < 0.2
