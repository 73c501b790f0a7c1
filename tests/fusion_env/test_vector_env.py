from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

import fusion_env  # noqa: F401 (registers the ids)
from fusion_env.action import ACTION_SIZE
from fusion_env.vector_env import FusionDistillVectorEnv, make_sb3_vec_env


def test_make_vec_gives_the_native_environment(tiny_cache: Path) -> None:
    env = gymnasium.make_vec("fusion_env/FusionDistillTiny-v0", num_envs=3, cache_dir=str(tiny_cache), rounds=2)
    assert isinstance(env.unwrapped, FusionDistillVectorEnv)
    observations, _ = env.reset(seed=5)
    assert observations.shape == (3, 10)
    assert len({id(single.unwrapped.task) for single in env.unwrapped.envs}) == 1  # data are shared


def test_each_student_is_as_alone(tiny_cache: Path) -> None:
    env = FusionDistillVectorEnv(2, "tiny", cache_dir=str(tiny_cache), rounds=3)
    env.reset(seed=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, ACTION_SIZE)).astype(np.float32)
    _, rewards, *_ = env.step(actions)
    for i, reward in enumerate(rewards):
        alone = gymnasium.make("fusion_env/FusionDistillTiny-v0", cache_dir=str(tiny_cache), rounds=3)
        alone.reset(seed=5 + i)
        assert alone.step(actions[i])[1] == reward


def test_autoreset(tiny_cache: Path) -> None:
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env = FusionDistillVectorEnv(2, "tiny", cache_dir=str(tiny_cache), rounds=1, autoreset_mode=mode)
        first, _ = env.reset(seed=0)
        observations, _, _, truncated, _ = env.step(np.zeros((2, ACTION_SIZE), np.float32))
        assert truncated.all()
        if mode is AutoresetMode.NEXT_STEP:
            observations, rewards, *_ = env.step(np.zeros((2, ACTION_SIZE), np.float32))
            assert (rewards == 0).all()
        assert np.array_equal(observations, first)


def test_stable_baselines_form(tiny_cache: Path) -> None:
    env = make_sb3_vec_env(2, "tiny", seed=3, cache_dir=str(tiny_cache), rounds=2)
    assert env.reset().shape == (2, 10)
    env.step(np.zeros((2, ACTION_SIZE)))
    _, _, dones, infos = env.step(np.zeros((2, ACTION_SIZE)))
    assert dones.all()
    assert all("episode" in info and "report" in info and "terminal_observation" in info for info in infos)
