"""Every algorithm through the same gauntlet."""

import functools
import io

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

import agents
from tests.agents.toy import Target, Walk, monitored_walk

LEARNING = ("a2c", "ppo", "reinforce", "sac", "td3", "tqc")
pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


@pytest.fixture(params=agents.names())
def name(request) -> str:
    if request.param == "tqc":
        pytest.importorskip("sb3_contrib")
    return request.param


@pytest.fixture(scope="module")
def two_processes():
    env = SubprocVecEnv([monitored_walk, monitored_walk], start_method="spawn")
    yield env
    env.close()


def saved_and_loaded(name, agent, env=None):
    file = io.BytesIO()
    agent.save(file)
    file.seek(0)
    return agents.algorithm(name).load(file, env=env)


def assert_equal_predictions(first, second, obs):
    one, other = (agent.predict(obs, deterministic=True)[0] for agent in (first, second))
    assert first.action_space.contains(one)
    np.testing.assert_array_equal(one, other)


def test_two_processes(name, two_processes):
    agent = agents.make(name, two_processes, seed=0).learn(40)
    assert agent.num_timesteps == 40
    assert_equal_predictions(agent, saved_and_loaded(name, agent), np.ones(3, np.float32))
    loaded = saved_and_loaded(name, agent, two_processes)
    assert loaded.learn(20, reset_num_timesteps=False).num_timesteps == 60


def test_state_across_processes(two_processes):
    agent = agents.make("sac", two_processes, seed=0).learn(40)
    file, envs = io.BytesIO(), two_processes.env_method("state_dict")
    agents.save_state(agent, file)
    whole = agent.learn(20, reset_num_timesteps=False).get_parameters()
    two_processes.reset()
    for index, state in enumerate(envs):
        two_processes.env_method("load_state_dict", state, indices=index)
    file.seek(0)
    second = agents.load_state("sac", file, two_processes).learn(20, reset_num_timesteps=False)
    for key, tensor in whole["policy"].items():
        assert (tensor == second.get_parameters()["policy"][key]).all(), key
    assert [info["r"] for info in agent.ep_info_buffer] == [info["r"] for info in second.ep_info_buffer]


def test_vec_normalize(name):
    env = VecNormalize(DummyVecEnv([Walk, functools.partial(Walk, 5)]))
    agent = agents.make(name, env, seed=0).learn(40)
    assert env.obs_rms.count > 40
    assert np.isfinite(agent.predict(np.ones(3, np.float32), deterministic=True)[0]).all()


def test_normalisation_wrappers_of_gymnasium(name):
    env = gym.wrappers.NormalizeReward(gym.wrappers.NormalizeObservation(Walk()))
    agent = agents.make(name, env, seed=0).learn(40)
    assert agent.num_timesteps == 40
    assert len(env.unwrapped.log) == 40


def test_spaces_of_several_dimensions(name):
    walk, space = Walk(), gym.spaces.Box(-1, 1, (2, 1), np.float32)
    env = gym.wrappers.TransformAction(gym.wrappers.ReshapeObservation(walk, (3, 1)), np.ravel, space)
    agent = agents.make(name, env, seed=0)
    if name == "planner":  # it sees nothing of wrappers
        with pytest.raises(ValueError, match="wrappers that change actions"):
            agent.learn(1)
    else:
        agent.learn(40)
        assert np.shape(walk.log) == (40, 2)
    one, many = (agent.predict(np.ones(shape, np.float32))[0] for shape in ((3, 1), (4, 3, 1)))
    assert (one.shape, many.shape) == ((2, 1), (4, 2, 1))


def test_logger_callbacks_and_progress_bar(name, tmp_path):
    pytest.importorskip("rich")
    agent = agents.make(name, Walk(), seed=0)
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    checkpoint = CheckpointCallback(25, str(tmp_path))
    evaluation = EvalCallback(Monitor(Walk()), eval_freq=20, n_eval_episodes=1, log_path=str(tmp_path), verbose=0)
    agent.learn(40, callback=[checkpoint, evaluation], log_interval=1, progress_bar=True)
    agent.logger.close()
    header = (tmp_path / "progress.csv").read_text().splitlines()[0]
    assert {"time/total_timesteps", "rollout/ep_rew_mean", "eval/mean_reward"} <= set(header.split(","))
    assert (tmp_path / "rl_model_25_steps.zip").exists()
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [20, 40]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "tqc" else ()) for name in LEARNING]
)
def test_learns_within_a_few_hundred_steps(name):
    if name == "tqc":
        pytest.importorskip("sb3_contrib")
    env = Target(length=50, dims=7)
    steps = 100 if name in ("sac", "td3", "tqc") else 300
    agent = agents.make(name, env, seed=0).learn(steps)
    action, _ = agent.predict(np.array([1.0, 0.5, -1.0], np.float32), deterministic=True)
    assert np.sum((action - env.optimum) ** 2) < 0.8 * np.sum(env.optimum**2), "better than no action"


ROUNDS = 17  # the shortest run that every algorithm's settings fit


@pytest.fixture(scope="module")
def fusion():
    pytest.importorskip("fusion_env")
    return gym.make("fusion_env/FusionDistillTiny-v0", rounds=ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in agents.names() if name != "reinforce-paper"], indirect=True)
def test_the_fusion_environment(name, fusion):
    agent = agents.make(name, fusion, seed=0).learn(ROUNDS)
    assert agent.num_timesteps == ROUNDS
    run = fusion.unwrapped.last_run
    assert len(run.actions) == ROUNDS
    assert np.isfinite(run.rewards).all()
    assert_equal_predictions(agent, saved_and_loaded(name, agent), fusion.reset(seed=1)[0])
