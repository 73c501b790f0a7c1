"""Forked processes, with the threads that a user has; each case is a process of its own, because a fault hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

START = """
import os, sys
import gymnasium, numpy as np, torch
from fusion_env.action import ACTION_SIZE
torch.set_num_threads(2)
NAME = "fusion_env/FusionDistillTiny-v0"
SETTINGS = {"threads": None, "cache_dir": sys.argv[1]}
ACTIONS = np.zeros((2, ACTION_SIZE), np.float32)

def make():
    return gymnasium.make(NAME, **SETTINGS)

def plain_loop(seed, threads):
    torch.set_num_threads(threads)
    env = make()
    env.reset(seed=seed)
    reward = env.step(ACTIONS[0])[1]
    torch.set_num_threads(2)
    return reward
"""

ASYNC = """
envs = gymnasium.make_vec(NAME, num_envs=2, vectorization_mode="async", **SETTINGS)
envs.reset(seed=0)
rewards = envs.step(ACTIONS)[1]
envs.close()
assert rewards.tolist() == [plain_loop(0, 1), plain_loop(1, 1)], rewards
"""

FORKED = """
from stable_baselines3.common.vec_env import SubprocVecEnv
plain_loop(0, 2)
envs = SubprocVecEnv([make] * 2, start_method="fork")
envs.seed(0)
envs.reset()
rewards = envs.step(ACTIONS)[1]
envs.close()
assert rewards.tolist() == [plain_loop(0, 1), plain_loop(1, 1)], rewards
"""

IN_USE = """
env = make()
env.reset(seed=0)
snapshot = env.unwrapped.state_dict()
child = os.fork()
if not child:
    first = env.step(ACTIONS[0])[1]
    env.unwrapped.load_state_dict(snapshot)
    again = env.step(ACTIONS[0])[1]
    os._exit(not (torch.get_num_threads() == 1 and first == again))
assert os.waitpid(child, 0)[1] == 0
assert torch.get_num_threads() == 2
env.step(ACTIONS[0])
"""

CHOSEN = """
SETTINGS["threads"] = 2
expected = plain_loop(0, 2)
child = os.fork()
if not child:
    os._exit(not (plain_loop(0, 2) == expected))
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "case",
    [ASYNC, FORKED, IN_USE, CHOSEN],
    ids=["async", "sb3", "in_use", "chosen"],
)
def test_forked_processes_train(case: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", START + case, str(tmp_path)], timeout=300, check=True)
