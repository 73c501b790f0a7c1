"""What the agent sees."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from fusion_env.action import ACTION_SIZE
from fusion_env.config import INDICATORS, DistillConfig
from fusion_env.env import FusionDistillEnv
from fusion_env.observation import OBSERVATIONS, observation_size, observation_table, sees_time
from fusion_env.task import build_task

MakeConfig = Callable[..., DistillConfig]
MakeEnv = Callable[..., FusionDistillEnv]
COUNT = len(INDICATORS)


def test_far_from_start_and_teacher_is_clipped(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())
    huge = {name: 100 * value for name, value in task.scorer.teacher_means.items()}
    assert task.observer.observe(huge, task.scorer.teacher_means).tolist() == [10.0] * 2 * COUNT


def test_both_halves_are_relative_to_the_teachers_mean(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(obs_scale=2.0))
    means = task.scorer.teacher_means
    half, other = ({name: share * value for name, value in means.items()} for share in (0.5, 0.75))
    seen = task.observer.observe(half, other)
    np.testing.assert_allclose(seen[:COUNT], -1.0, rtol=1e-6)
    np.testing.assert_allclose(seen[COUNT:], -0.5, rtol=1e-6)


def test_minmax_is_centred(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(normalisation="minmax", minmax_bounds=(0, 100) * COUNT, obs_scale=1.0))
    student = dict.fromkeys(task.scorer.names, 75.0)
    np.testing.assert_allclose(task.observer.observe(student, task.scorer.teacher_means)[:COUNT], 0.25, rtol=1e-6)


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_sizes_tables_and_spaces_agree(tiny_env: MakeEnv, kind: str) -> None:
    env = tiny_env(observation=kind, rounds=1)
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (observation_size(kind),)
    assert env.observation_space.contains(observation)
    last = observation_table(kind).splitlines()[-1].split("|")[1].split()[-1]
    assert int(last) == observation_size(kind) - 1
    *_, terminated, truncated, _ = env.step(np.zeros(ACTION_SIZE))
    assert (terminated, truncated) == (sees_time(kind), not sees_time(kind))


def test_rich_says_what_the_last_round_did(tiny_env: MakeEnv) -> None:
    env = tiny_env(observation="rich", rounds=4, obs_scale=1.0, loss_scale="stage0")
    action = np.linspace(-0.9, 0.9, ACTION_SIZE, dtype=np.float32)
    first, before = env.reset(seed=0)
    assert not first[2 * COUNT : 3 * COUNT + 2].any()
    assert first[3 * COUNT + 2] == 0.5
    assert not first[3 * COUNT + 3 :].any()
    seen, *_, info = env.step(action)
    means, scales = env.task.scorer.teacher_means, env.task.scales
    change = [(info["student"][name] - before["student"][name]) / means[name] for name in INDICATORS]
    np.testing.assert_allclose(seen[2 * COUNT : 3 * COUNT], change, rtol=1e-4, atol=1e-6)
    losses = info["losses"]
    relative = [math.log(losses[name] / getattr(scales, name)) for name in ("guidance", "self_learning")]
    np.testing.assert_allclose(seen[3 * COUNT : 3 * COUNT + 2], relative, rtol=1e-5)
    assert seen[3 * COUNT + 2] == pytest.approx(info["guidance_share"])
    np.testing.assert_allclose(seen[3 * COUNT + 3 : -1], action)
    assert seen[-1] == 0.25


def test_rich_without_self_learning_is_finite(tiny_env: MakeEnv) -> None:
    env = tiny_env(observation="rich", self_learning=False, loss_scale="none")
    env.reset(seed=0)
    assert np.isfinite(env.step(np.zeros(ACTION_SIZE))[0]).all()


def test_a_loaded_snapshot_sees_the_same(tiny_env: MakeEnv) -> None:
    env = tiny_env(observation="rich")
    env.reset(seed=0)
    env.step(np.zeros(ACTION_SIZE))
    fork = env.fork()
    assert np.array_equal(fork.run.observation, env.run.observation)
    assert np.array_equal(fork.step(np.ones(ACTION_SIZE))[0], env.step(np.ones(ACTION_SIZE))[0])
