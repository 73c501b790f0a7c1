"""Rolling-horizon planning on copies of the environment."""

import io

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from tests.agents.toy import Target, Walk

OBS = np.zeros(3, np.float32)


def returns(env: Target) -> float:
    return float(np.sum(env.rewards[-env.length :]))


@pytest.mark.parametrize("objective", ["last", "sum"])
def test_beats_a_bad_start(objective):
    bad, env = Target(length=20), Target(length=20)
    agents.make("constant", bad, action=[-1, 1]).learn(20)
    agents.make("planner", env, seed=0, start=[-1, 1], execute=1, lookahead=2, objective=objective).learn(20)
    assert returns(env) > 0.5 * returns(bad)
    assert env.rewards == sorted(env.rewards), "where nothing is random, no plan is worse than the action so far"


def test_tries_the_anchors():
    env = Target(length=4)
    agents.make("planner", env, seed=0, anchors=[env.optimum.tolist()], candidates=2).learn(4)
    np.testing.assert_array_equal(env.actions, [env.optimum] * 4)


def test_an_action_is_held_and_the_last_step_or_the_sum_decides():
    class Late(Target):
        """What is bad at once is good later."""

        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, float(action[0]) * (1 if self.steps % 3 == 0 else -1), *rest

    for objective, best in {"last": 1, "sum": -1, "best": -1}.items():
        env = Late(length=6)
        settings = {"start": -1, "anchors": [1], "candidates": 2, "lookahead": 3, "execute": 3, "objective": objective}
        agents.make("planner", env, **settings).learn(6)
        np.testing.assert_array_equal(env.actions, np.full((6, 2), best))


def test_the_environment_and_its_streams_stay_as_they_are():
    env, other = Walk(), Walk()
    agent = agents.make("planner", env, seed=3).learn(14)
    other.reset(seed=3)
    for number, action in enumerate(env.log, 1):
        other.step(action)
        if number % 7 == 0:
            other.reset()
    assert env.state_dict() == other.state_dict()
    assert agent.planning_rounds == 2 * 8 * (5 + 2), "copies end with the episode"


def test_copies_without_foresight_share_one_other_seed(monkeypatch):
    seeds = []

    def fork(self, seed=None):
        seeds.append(seed)
        return Walk.__mro__[1].fork(self, seed)

    monkeypatch.setattr(Walk, "fork", fork)
    agents.make("planner", Walk(), seed=0, foresight=False, execute=1).learn(2)
    assert len(set(seeds[:8])) == len(set(seeds[8:])) == 1
    assert len(set(seeds)) == 2
    seeds.clear()
    agents.make("planner", Walk(), seed=0).learn(1)
    assert seeds == [None] * 8


def test_deterministic_by_its_seed():
    logs = []
    for seed in (0, 0, 1):
        env = Walk()
        agents.make("planner", env, seed=seed).learn(12)
        logs.append(np.array(env.log))
    np.testing.assert_array_equal(logs[0], logs[1])
    assert (logs[0] != logs[2]).any()


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_resumes_exactly_within_a_plan(steps):
    whole, split = Walk(), Walk()
    first = agents.make("planner", whole, seed=0).learn(20)
    agent, file = agents.make("planner", split, seed=0).learn(steps), io.BytesIO()
    agents.save_state(agent, file)
    file.seek(0)
    second = agents.load_state("planner", file, split)
    second.learn(20 - steps, reset_num_timesteps=False)
    np.testing.assert_array_equal(whole.log, split.log)
    assert first.planning_rounds == second.planning_rounds


def test_each_of_several_environments_has_its_own_plan():
    env = DummyVecEnv([lambda: Walk(7), lambda: Walk(5)])
    agent = agents.make("planner", env, seed=0).learn(20)
    logs = [np.array(one.log) for one in env.envs]
    assert (logs[0] != logs[1]).any()
    for log, length in zip(logs, (7, 5), strict=True):
        changes = np.flatnonzero((np.diff(log, axis=0) != 0).any(1)) + 1
        assert {change % length for change in changes} <= {0, 5}
    np.testing.assert_array_equal(agent.predict(OBS)[0], agent.predict(np.zeros((2, 3)))[0][1])


def test_plans_outside_of_learning():
    env = DummyVecEnv([lambda: Target(length=4)])
    agent, state, starts = agents.make("planner", env, seed=0, anchors=[[0.5, -0.5]]), None, np.ones(1, bool)
    assert agent.predict(OBS)[0].tolist() == [0, 0]
    env.reset()
    for _ in range(4):
        action, state = agent.plan(env, state, starts)
        _, _, starts, _ = env.step(action)
    np.testing.assert_array_equal(env.envs[0].actions, [[0.5, -0.5]] * 4)


class Drift(Walk):
    """What is done moves the target, beside chance."""

    def step(self, action):
        self.target = self.target + 0.2 * np.asarray(action)
        return super().step(action)


@pytest.mark.parametrize(("objective", "outcome"), [("best", max), ("last", lambda rewards: rewards[-1]), ("sum", sum)])
def test_with_the_whole_episode_in_sight_it_is_no_worse_than_what_it_tries(objective, outcome):
    def result(name, **settings):
        rewards = []
        agent = agents.make(name, Drift(length=20), seed=0, **settings)
        agent.learn(20, callback=lambda local, _: rewards.append(float(local["rewards"][0])) or True)
        return outcome(rewards), agent

    tried = [[0.9, -0.9], [-0.5, -0.5], [0.1, 0.8]]
    best = max(result("constant", action=action)[0] for action in tried)
    settings = {"start": tried[0], "anchors": tried[1:], "objective": objective, "lookahead": None, "execute": 10}
    reached, agent = result("planner", candidates=3, **settings)
    assert reached >= best
    assert agent.planning_rounds == 3 * (20 + 10)
    assert result("planner", **settings)[0] >= best


def test_progress_can_be_watched():
    agent, seen = agents.make("planner", Walk(), seed=0, candidates=2), []
    agent.watch = seen.append
    agent.learn(5)
    assert seen == list(range(1, 11))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates must be 1 or more. Got 0"),
        ({"candidates": 2, "anchors": [0, 1]}, "candidates must be 3 or more. Got 2"),
        ({"lookahead": 0}, "lookahead must be 1 or more"),
        ({"execute": 0}, "execute must be 1 or more"),
        ({"execute": 6}, "execute must be at most lookahead=5"),
        ({"objective": "lsat"}, "Did you mean 'last'"),
        ({"width": -1.0}, "width must be"),
        ({"start": 2}, "start must lie within"),
        ({"anchors": [[0, 0, 0]]}, "anchors must be one number or 2"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        agents.make("planner", Walk(), **settings)


def test_an_environment_without_copies():
    with pytest.raises(ValueError, match=r"fork\(seed=None\) that returns an independent copy. Got .*Pendulum"):
        agents.make("planner", gym.make("Pendulum-v1"))


def test_a_state_of_other_environments():
    one, two = (DummyVecEnv([Walk] * count) for count in (1, 2))
    agent = agents.make("planner", one, seed=0, candidates=1)
    one.reset(), two.reset()
    _, state = agent.plan(one)
    with pytest.raises(ValueError, match=r"the state must be that of 2 environment\(s\). Got one of 1."):
        agent.plan(two, state)
    with pytest.raises(ValueError, match=r"episode_start must be that of 2 environment\(s\). Got 1."):
        agent.plan(two, None, [True])


def test_a_copy_that_pays_nonsense():
    with pytest.raises(ValueError, match="a copy of the environment paid nan"):
        agents.make("planner", Target(constant=float("nan"))).learn(1)
