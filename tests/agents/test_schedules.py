"""Actions fixed in advance, and the algorithms made of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from agents import ActionSchedule
from tests.agents.toy import Walk

OBS = np.zeros(3, np.float32)


class TestActionSchedule:
    def test_by_hand(self):
        schedule, state = ActionSchedule([0, 1], [1, -1], 5), None
        actions = []
        for _ in range(7):
            action, state = schedule.predict(OBS, state)
            actions.append(action.tolist())
        assert actions == [[0, 1], [0.25, 0.5], [0.5, 0], [0.75, -0.5], [1, -1], [1, -1], [1, -1]]

    @settings(max_examples=30, deadline=None)
    @given(
        start=st.floats(-1, 1, width=32),
        end=st.floats(-1, 1, width=32),
        rounds=st.integers(1, 50),
        step=st.integers(0, 100),
    )
    def test_meets_both_ends_and_stays_between(self, start, end, rounds, step):
        schedule = ActionSchedule([start], [end], rounds)
        assert schedule.action(0)[0] == start
        if rounds > 1:
            assert schedule.action(rounds - 1)[0] == np.float32(end)
        assert min(start, end) - 1e-6 <= schedule.action(step)[0] <= max(start, end) + 1e-6

    def test_each_environment_has_its_own_count(self):
        schedule = ActionSchedule([0.0], [1.0], 3)
        batch = np.zeros((2, 3), np.float32)
        first, state = schedule.predict(batch, None, np.array([True, True]))
        second, state = schedule.predict(batch, state, np.array([False, True]))
        third, state = schedule.predict(batch, state, np.array([False, False]))
        assert [first.tolist(), second.tolist(), third.tolist()] == [[[0], [0]], [[0.5], [0]], [[1], [0.5]]]

    def test_one_and_many_observations(self):
        schedule = ActionSchedule([0.5, 0.5], [0.5, 0.5], 1)
        assert schedule.predict(OBS)[0].shape == (2,)
        assert schedule.predict(OBS[None])[0].shape == (1, 2)
        assert ActionSchedule([0.5], [0.5], 1, obs_ndim=3).predict(np.zeros((3, 8, 8)))[0].shape == (1,)

    def test_the_state_handed_in_is_left_alone(self):
        state = (np.array([1]),)
        ActionSchedule([0.0], [1.0], 3).predict(OBS, state, np.array([True]))
        assert state[0].tolist() == [1]

    @pytest.mark.parametrize(
        ("start", "end", "rounds", "message"),
        [
            ([0], [0, 1], 3, "one shape"),
            ([0], [np.nan], 3, "end must be finite"),
            (["a"], [1], 3, r"start must hold numbers. Got \['a'\]"),
            ([0], [1], 0, "rounds must be 1 or more"),
            ([0], [1], 2.5, "rounds must be an integer. Got 2.5"),
            ([0], [1], "3", "rounds must be an integer"),
            ([0], [1], float("nan"), "rounds must be an integer"),
        ],
    )
    def test_errors(self, start, end, rounds, message):
        with pytest.raises((ValueError, TypeError), match=message):
            ActionSchedule(start, end, rounds)

    def test_a_state_of_another_batch(self):
        with pytest.raises(ValueError, match=r"state must be that of 2 environment\(s\). Got .*array\(\[0\]\)"):
            ActionSchedule([0], [1], 3).predict(np.zeros((2, 3)), (np.zeros(1, int),))
        for state in (np.zeros(2), 5, ()):
            with pytest.raises(ValueError, match="state must be what predict returned"):
                ActionSchedule([0], [1], 3).predict(np.zeros((2, 3)), state)
        with pytest.raises(ValueError, match=r"episode_start must be that of 2 environment\(s\). Got 1"):
            ActionSchedule([0], [1], 3).predict(np.zeros((2, 3)), None, [True])


class TestAlgorithms:
    def test_constant(self):
        env = Walk()
        agents.make("constant", env, action=[0.25, -0.5]).learn(10)
        np.testing.assert_array_equal(env.log, [[0.25, -0.5]] * 10)

    def test_linear_starts_again_with_each_episode_of_each_environment(self):
        envs = [Walk(3), Walk(5)]
        env = DummyVecEnv([lambda env=env: env for env in envs])
        agents.make("linear", env, start=0.0, end=[1.0, -1.0], rounds=3).learn(10)
        assert np.array(envs[0].log)[:, 0].tolist() == [0, 0.5, 1, 0, 0.5]
        assert np.array(envs[1].log)[:, 1].tolist() == [0, -0.5, -1, -1, -1]

    def test_split_learning_equals_whole_learning(self):
        whole, split = Walk(), Walk()
        agents.make("linear", whole, start=-1.0, end=1.0, rounds=7, seed=0).learn(10)
        agents.make("linear", split, start=-1.0, end=1.0, rounds=7, seed=0).learn(4).learn(6, reset_num_timesteps=False)
        np.testing.assert_array_equal(whole.log, split.log)

    def test_evaluation_hands_the_state_on(self):
        env = Walk(length=3)
        agent = agents.make("linear", env, start=0.0, end=1.0, rounds=3)
        evaluate_policy(agent, Monitor(env), n_eval_episodes=2)
        assert np.array(env.log)[:, 0].tolist() == [0, 0.5, 1, 0, 0.5, 1]

    @pytest.mark.parametrize("name", ["constant", "linear"])
    @pytest.mark.parametrize(("low", "high", "expected"), [(-1, 1, 0), (1, 2, 1), (-3, -2, -2)])
    def test_defaults_are_zero_or_the_nearest_bound(self, name, low, high, expected):
        agent = agents.make(name, Walk(low=low, high=high))
        np.testing.assert_array_equal(agent.predict(OBS)[0], [expected, expected])

    @pytest.mark.parametrize(
        ("name", "overrides", "message"),
        [
            ("constant", {"action": 1.5}, "action must lie within"),
            ("constant", {"action": float("nan")}, "action must be a number"),
            ("constant", {"action": [0, float("nan")]}, "action must lie within"),
            ("constant", {"action": [0, 0, 0]}, "2 numbers"),
            ("linear", {"start": 0, "end": [0]}, "end must be one number or 2"),
            ("linear", {"rounds": 0}, "rounds must be 1 or more"),
        ],
    )
    def test_settings_out_of_range(self, name, overrides, message):
        with pytest.raises(ValueError, match=message):
            agents.make(name, Walk(), **overrides)

    def test_a_bound_that_float32_rounds_is_inside(self):
        agent = agents.make("constant", Walk(low=-0.1, high=0.1), action=0.1)
        assert agent.action_space.contains(agent.predict(OBS)[0])
