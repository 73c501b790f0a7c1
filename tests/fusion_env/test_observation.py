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


def test_one_half_is_relative_to_stage_0_and_the_other_to_the_teacher(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(obs_scale=2.0))
    start, means = task.scorer.score(task.new_engine(0, 0).student)[0], task.scorer.teacher_means
    student = {name: 1.5 * value for name, value in start.items()}
    seen = task.observer.observe(student, means)
    np.testing.assert_allclose(seen[:COUNT], 1.0, rtol=1e-6)
    wanted = [2 * (student[name] - means[name]) / means[name] for name in INDICATORS]
    np.testing.assert_allclose(seen[COUNT:], wanted, rtol=1e-5)


def test_a_run_begins_with_no_progress_and_a_gap(tiny_env: MakeEnv) -> None:
    observation, info = tiny_env().reset(seed=0)
    assert not observation[:COUNT].any()
    assert observation[COUNT:].all()
    assert info["student"]["vif"] < info["teacher"]["vif"]


def test_minmax_halves_are_differences_between_the_bounds(tiny_config: MakeConfig) -> None:
    settings = {"normalisation": "minmax", "minmax_bounds": (0, 100) * COUNT, "score_metrics": ("vif", "iqa")}
    task = build_task(tiny_config(**settings, obs_scale=1.0))
    start, means = task.scorer.score(task.new_engine(0, 0).student)[0], task.scorer.teacher_means
    student = dict.fromkeys(task.scorer.names, 75.0)
    seen = task.observer.observe(student, means)
    np.testing.assert_allclose(seen[:COUNT], [0.75 - start[name] / 100 for name in INDICATORS], rtol=1e-5)
    np.testing.assert_allclose(seen[COUNT:], [0.75 - means[name] / 100 for name in INDICATORS], rtol=1e-5)


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
