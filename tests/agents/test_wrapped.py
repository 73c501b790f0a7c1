"""Policies of unknown classes behind the interface of the algorithms."""

import io

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from tests.agents.toy import Follower, SavedFollower, Walk

OBS = np.array([0.5, -0.25, 0.0], np.float32)
FILE_POLICY = """
from dataclasses import dataclass
import numpy as np

@dataclass
class Steady:
    level: float = 0.25

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        return np.full((len(obs), 2), self.level), None


class Kept(Steady):
    def save(self, path):
        with open(path + ".txt", "w") as file:
            file.write(str(self.level))

    @classmethod
    def load(cls, path):
        with open(path + ".txt") as file:
            return cls(float(file.read()))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE_POLICY)
    return path


class TestWrap:
    def test_learn_steps_the_environment_and_hands_the_state_on(self):
        envs = [Walk(3), Walk(5)]
        policy = Follower()
        agent = agents.wrap(policy, DummyVecEnv([lambda env=env: env for env in envs])).learn(12)
        assert agent.num_timesteps == 12
        assert [len(env.log) for env in envs] == [6, 6]
        assert policy.calls[0]["state"] is None
        assert policy.calls[0]["episode_start"].tolist() == [True, True]
        assert policy.calls[3]["episode_start"].tolist() == [True, False]
        assert [call["state"].tolist() for call in policy.calls[1:5]] == [[1, 1], [2, 2], [3, 3], [1, 4]]
        assert not any(call["deterministic"] for call in policy.calls)

    def test_predict_is_the_policy_s(self):
        agent = agents.wrap(Follower(2.0), Walk())
        action, state = agent.predict(OBS[None], deterministic=True)
        assert action.tolist() == [[1.0, -0.5]]
        assert state.tolist() == [1]

    def test_actions_are_clipped_on_the_way(self):
        env = Walk()
        agents.wrap(Follower(100.0), env).learn(5)
        assert np.abs(env.log).max() == 1

    def test_an_algorithm_of_stable_baselines_is_a_policy_too(self, tmp_path):
        model = stable_baselines3.PPO("MlpPolicy", Walk(), n_steps=8, batch_size=8, seed=0)
        agent = agents.wrap(model, Walk()).learn(5)
        agent.save(tmp_path / "agent.zip")
        loaded = agents.Wrapped.load(tmp_path / "agent.zip")
        assert isinstance(loaded.policy, stable_baselines3.PPO)
        np.testing.assert_array_equal(
            loaded.predict(OBS, deterministic=True)[0], model.predict(OBS, deterministic=True)[0]
        )

    def test_the_order_of_the_keywords_is_the_policy_s_own(self):
        class Other(Follower):
            def predict(self, observation, *, deterministic, episode_start, state):
                assert isinstance(deterministic, bool)
                return super().predict(observation, state, episode_start, deterministic)

        agent = agents.wrap(Other(), Walk()).learn(5)
        assert agent.predict(OBS[None], deterministic=True)[0].shape == (1, 2)

    def test_no_updates_are_counted(self):
        assert agents.gradient_updates(agents.wrap(Follower(), Walk()).learn(5)) == 0

    @pytest.mark.parametrize("what", [lambda obs: obs, object(), 3])
    def test_without_predict(self, what):
        with pytest.raises(TypeError, match="must have predict"):
            agents.wrap(what, Walk())

    @pytest.mark.parametrize(("value", "kind"), [("0.3", "<U3"), (None, "object"), (0.1 + 2j, "complex128")])
    def test_actions_that_are_no_numbers(self, value, kind):
        class Odd:
            def predict(self, obs, state=None, episode_start=None, deterministic=False):
                return [[value] * 2 for _ in obs], None

        agent = agents.wrap(Odd(), Walk())
        with pytest.raises(TypeError, match=f"Odd must return actions of real numbers. Got {kind}."):
            agent.predict(np.zeros((1, 3), np.float32))

    def test_answers_of_another_form(self):
        class Bare:
            def predict(self, obs, state=None, episode_start=None, deterministic=False):
                return obs[:, :2]

        class Short(Follower):
            def predict(self, obs, state=None, episode_start=None, deterministic=False):
                return obs[:, :1], None

        bare, short = (agents.wrap(policy, Walk()) for policy in (Bare(), Short()))
        for asked in (lambda agent: agent.learn(3), lambda agent: agent.predict(OBS[None])):
            with pytest.raises(TypeError, match=r"Bare must return \(action, state\). Got a ndarray"):
                asked(bare)
            with pytest.raises(ValueError, match=r"Short must return actions of shape \(1, 2\) .* Got \(1, 1\)"):
                asked(short)


class TestByName:
    def test_of_a_module(self):
        env = Walk()
        agent = agents.make("tests.agents.toy:Follower", env, scale=0.5, seed=3).learn(5)
        assert agent.policy.scale == 0.5
        assert agent.seed == 3
        assert agents.algorithm("tests.agents.toy:Follower") is agents.Wrapped

    def test_of_a_file(self, file):
        env = Walk()
        agents.make(f"{file}:Steady", env, level=-0.5).learn(5)
        np.testing.assert_array_equal(env.log, [[-0.5, -0.5]] * 5)

    def test_a_factory_may_ask_for_the_environment(self):
        agent = agents.make("tests.agents.toy:follower_for", Walk())
        assert agent.policy.scale == 0.5

    def test_an_algorithm_is_taken_as_it_is(self):
        path = "stable_baselines3:A2C"
        agent = agents.make(path, Walk(), policy="MlpPolicy", seed=1)
        assert type(agent) is stable_baselines3.A2C is agents.algorithm(path)
        assert agent.seed == 1

    @pytest.mark.parametrize(
        ("path", "settings", "message"),
        [
            ("tests.agents.toys:Follower", {}, "no module 'tests.agents.toys'"),
            ("tests.agents.toy:Folower", {}, "no 'Folower'. Did you mean 'Follower'"),
            ("tests.agents.toy:Follower", {"scal": 1}, "no setting 'scal'. Did you mean 'scale'"),
            ("tests.agents.toy:np", {}, "must be a class or a function"),
            ("/nowhere/mine.py:Steady", {}, "no file /nowhere/mine.py"),
        ],
    )
    def test_mistakes(self, path, settings, message):
        with pytest.raises(ValueError, match=message):
            agents.make(path, Walk(), **settings)

    def test_a_requirement_that_is_missing_is_not_called_a_misspelt_module(self, tmp_path):
        path = tmp_path / "needs.py"
        path.write_text("import a_package_that_does_not_exist")
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError, match="a_package_that_does_not_exist"):
                agents.make(f"{path}:Policy", Walk())


class TestSaveLoad:
    def test_with_save_and_load_the_policy_is_kept(self, tmp_path):
        agent = agents.wrap(SavedFollower(0.75), Walk())
        agent.policy.scale = 0.875
        agent.save(tmp_path / "agent.zip")
        loaded = agents.Wrapped.load(tmp_path / "agent.zip", env=Walk())
        assert type(loaded.policy) is SavedFollower
        assert loaded.policy.scale == 0.875

    def test_of_a_file_with_save_and_load(self, file, tmp_path):
        agent = agents.make(f"{file}:Kept", Walk())
        agent.policy.level = 0.625
        agent.save(tmp_path / "agent.zip")
        assert agents.Wrapped.load(tmp_path / "agent.zip").policy.level == 0.625

    def test_made_by_name_it_is_made_again(self, file, tmp_path, monkeypatch):
        monkeypatch.chdir(file.parent)
        agent = agents.make("mine.py:Steady", Walk(), level=0.125)
        agent.save(tmp_path / "agent.zip")
        monkeypatch.chdir("/")
        assert agents.Wrapped.load(tmp_path / "agent.zip").policy.level == 0.125

    def test_made_for_an_environment(self, tmp_path):
        agents.make("tests.agents.toy:follower_for", Walk(), scale=0.75).save(tmp_path / "agent.zip")
        assert agents.Wrapped.load(tmp_path / "agent.zip", env=Walk()).policy.scale == 0.75
        with pytest.raises(ValueError, match="load it with env"):
            agents.Wrapped.load(tmp_path / "agent.zip")

    def test_anything_else_is_refused_not_pickled(self, tmp_path):
        with pytest.raises(TypeError, match="Follower cannot be saved: give it save"):
            agents.wrap(Follower(), Walk()).save(tmp_path / "agent.zip")
        assert not list(tmp_path.iterdir())

    def test_state_of_learning(self):
        whole_env, first_env, second_env, file = Walk(), Walk(), Walk(), io.BytesIO()
        path = "tests.agents.toy:SavedFollower"
        whole = agents.make(path, whole_env, scale=0.5, seed=0).learn(20)
        first = agents.make(path, first_env, scale=0.5, seed=0).learn(10)
        agents.save_state(first, file)
        second_env.reset()
        second_env.load_state_dict(first_env.state_dict())
        file.seek(0)
        second = agents.load_state(path, file, second_env).learn(10, reset_num_timesteps=False)
        np.testing.assert_array_equal(whole_env.log, first_env.log + second_env.log)
        last, other = (agent.policy.calls[-1]["state"].tolist() for agent in (whole, second))
        assert last == other
