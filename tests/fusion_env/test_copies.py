"""Copies of an environment, deep or pickled, go on alike and do not hold the task's data once more."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from fusion_env.action import ACTION_SIZE
from fusion_env.config import DistillConfig
from fusion_env.data import ProceduralScenes
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import SnapshotError
from fusion_env.task import build_task
from fusion_env.teachers import load

MakeConfig = Callable[..., DistillConfig]


def begun(config: DistillConfig, **given: object) -> FusionDistillEnv:
    env = FusionDistillEnv(config=config, **given)  # type: ignore[arg-type]
    env.reset(seed=3)
    env.step(np.zeros(ACTION_SIZE, np.float32))
    return env


def go_on(env: FusionDistillEnv) -> list[float]:
    rewards = [env.step(np.full(ACTION_SIZE, 0.2, np.float32))[1] for _ in range(2)]
    observation, _ = env.reset()
    return [*rewards, *observation.tolist()]


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_and_shares_the_task(make_copy: Callable, tiny_config: MakeConfig) -> None:
    env = begun(tiny_config())
    other = make_copy(env)
    assert other.task is env.task
    assert go_on(other) == go_on(env)
    assert other.student is not env.student


def test_a_copy_before_the_first_reset_and_of_what_a_run_left(tiny_config: MakeConfig) -> None:
    env = FusionDistillEnv(config=tiny_config())
    copy.deepcopy(env).reset(seed=0)
    env.reset(seed=0)
    last = env.abandon()
    other = pickle.loads(pickle.dumps(env)).last_run
    assert other.report == last.report
    with pytest.raises(gymnasium.error.ResetNeeded):
        copy.deepcopy(env).step(np.zeros(ACTION_SIZE, np.float32))


def test_wrapped_environments(tiny_config: MakeConfig) -> None:
    env = gymnasium.make("fusion_env/FusionDistillTiny-v0", config=tiny_config())
    env.reset(seed=0)
    other = copy.deepcopy(env)
    assert other.unwrapped.task is env.unwrapped.task
    assert other.spec == env.spec
    action = np.zeros(ACTION_SIZE, np.float32)
    assert other.step(action)[1] == env.step(action)[1]


def test_a_pickle_is_small(tiny_config: MakeConfig) -> None:
    env = begun(tiny_config())
    student = sum(tensor.numel() * 4 for tensor in env.student.state_dict().values())
    assert len(pickle.dumps(env)) < 5 * student  # weights, two moments, the best of the run; not the data
    env.reset()
    assert len(pickle.dumps(env)) < 7 * student  # and what the run that was cut off left: its best and its last
    assert len(pickle.dumps(env.task)) < 10_000


@pytest.mark.slow
def test_what_was_made_in_python_goes_along(tiny_config: MakeConfig) -> None:
    source, teacher = ProceduralScenes(6, 100, 112, 5), load("laplacian")
    env = begun(tiny_config(student_init="random"), source=source, teacher=teacher)
    other = pickle.loads(pickle.dumps(env))
    assert go_on(other) == go_on(env)


@pytest.mark.slow
def test_another_process_continues(tiny_config: MakeConfig, tmp_path: Path) -> None:
    env = begun(tiny_config(threads=1))
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(env))
    program = """
import pickle, sys
import numpy as np
env = pickle.load(open(sys.argv[1], "rb"))
print([env.step(np.full(env.action_space.shape, 0.2, np.float32))[1] for _ in range(2)])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "env.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == str(go_on(env)[:2])


def test_a_pickle_of_other_data_is_refused(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())
    rebuild, (config, *given, fingerprints) = task.__reduce__()
    with pytest.raises(SnapshotError, match=r"other data or networks .* content of teacher \('another', here "):
        rebuild(config, *given, fingerprints | {"teacher": "another"})


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_made_in_inference_mode_can_be_stepped(make_copy: Callable, tiny_config: MakeConfig) -> None:
    env = begun(tiny_config())
    with torch.inference_mode():
        other = make_copy(env)
    assert go_on(other) == go_on(env)
