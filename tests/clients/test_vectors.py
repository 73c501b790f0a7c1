"""Vector environments of gymnasium and Stable-Baselines3 in forked processes."""

import os
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor

from fusion_env.action import ACTION_SIZE
from tests.clients.plain_loop import ROUNDS, assert_same

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")]

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (ROUNDS, 2, ACTION_SIZE)).astype(np.float32)


def test_gymnasium(make: Callable[[], gymnasium.Env]) -> None:
    envs = AsyncVectorEnv([make] * 2, context="fork")
    envs.reset(seed=3)
    rewards = [envs.step(actions)[1] for actions in ACTIONS]
    left = envs.get_attr("last_run")
    envs.close()
    for i in range(2):
        assert_same(make(), [3 + i, *ACTIONS[:, i]], [row[i] for row in rewards], left[i])


def test_stable_baselines(make: Callable[[], gymnasium.Env]) -> None:
    before = make()
    before.reset(seed=0)
    before.step(ACTIONS[0, 0])  # the parent has its threads before it forks
    envs = VecMonitor(SubprocVecEnv([make] * 2, start_method="fork"))
    envs.seed(3)
    envs.reset()
    rewards = [envs.step(actions)[1] for actions in ACTIONS]
    left = envs.get_attr("last_run")
    envs.close()
    for i in range(2):
        assert_same(make(), [3 + i, *ACTIONS[:, i]], [row[i] for row in rewards], left[i])
