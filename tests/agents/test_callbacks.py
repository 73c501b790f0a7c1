"""The action that was executed, and the moments of complete state."""

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from tests.agents.toy import Follower, Walk

KEYS = {
    "sac": {"actions", "buffer_actions", "rewards", "dones", "infos", "new_obs"},
    "ppo": {"actions", "clipped_actions", "rewards", "dones", "infos", "new_obs"},
    "reinforce": {"actions", "clipped_actions", "rewards", "dones", "infos", "new_obs"},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")
KEYS |= {"td3": KEYS["sac"], "tqc": KEYS["sac"], "a2c": KEYS["ppo"]}


def make(name, env, **settings):
    if name == "wrapped":
        return agents.wrap(Follower(10.0), env)
    if name == "tqc":
        pytest.importorskip("sb3_contrib")
    return agents.make(name, env, seed=0, **settings)


class Collect(BaseCallback):
    def __init__(self, keys=frozenset()):
        super().__init__()
        self.keys, self.executed = keys, []

    def _on_step(self) -> bool:
        assert self.keys <= set(self.locals)
        assert len(self.locals["infos"]) == len(self.locals["rewards"]) == len(self.locals["dones"]) == 2
        self.executed.append(agents.executed_actions(self.model, self.locals))
        return True


@pytest.mark.parametrize("name", [*agents.names(), "wrapped"])
def test_executed_actions_are_those_that_the_environment_received(name):
    envs = [Walk(low=-0.2, high=0.6), Walk(5, low=-0.2, high=0.6)]
    collect = Collect(KEYS.get(name, KEYS["reinforce"]))
    make(name, DummyVecEnv([lambda env=env: env for env in envs])).learn(40, callback=collect)
    executed = np.array(collect.executed)
    assert executed.shape == (20, 2, 2)
    np.testing.assert_array_equal(executed[:, 0], envs[0].log)
    np.testing.assert_array_equal(executed[:, 1], envs[1].log)


def test_executed_actions_are_a_copy():
    model = agents.make("constant", Walk())
    actions = np.zeros((1, 2))
    agents.executed_actions(model, {"clipped_actions": actions})[:] = 1
    assert not actions.any()


class Moments(agents.CompleteStateCallback):
    def __init__(self):
        super().__init__()
        self.steps, self.updates = [], []

    def on_complete_state(self) -> None:
        self.steps.append(self.num_timesteps)
        self.updates.append(agents.gradient_updates(self.model))


class Stop(BaseCallback):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        return self.num_timesteps < self.at


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("ppo", {"n_steps": 10}, [0, 9, 17, 25]),
        ("a2c", {"n_steps": 5}, [0, 5, 10, 15, 20, 25]),
        ("sac", {}, list(range(26))),
        ("td3", {"train_freq": 5}, [0, 5, 10, 15, 20, 25]),
        ("reinforce", {}, list(range(26))),
        ("constant", {}, list(range(26))),
        ("random-search", {}, list(range(26))),
        ("wrapped", {}, list(range(26))),
    ],
)
def test_moments_of_complete_state(name, overrides, expected):
    moments = Moments()
    agent = make(name, Walk(), **overrides)
    agent.learn(25, callback=moments)
    assert moments.steps == expected
    assert moments.updates[-1] == agents.gradient_updates(agent), "at the end the last update has been made"


@pytest.mark.parametrize(
    ("name", "expected"), [("ppo", [0, 10]), ("sac", list(range(14))), ("reinforce", list(range(15)))]
)
def test_a_stop_inside_a_rollout_is_no_complete_state(name, expected):
    moments = Moments()
    make(name, Walk()).learn(40, callback=CallbackList([moments, Stop(14)]))
    assert moments.steps == expected


def test_after_a_stop_the_next_call_has_its_moments():
    moments = Moments()
    agent = make("ppo", Walk()).learn(40, callback=[moments, Stop(14)])
    agent.learn(20, callback=moments)
    assert moments.steps == [0, 10, 0, 10, 20]
