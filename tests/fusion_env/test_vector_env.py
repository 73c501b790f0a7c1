import copy
import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import fusion_env  # noqa: F401 (registers the ids)
from fusion_env.action import ACTION_SIZE
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import SnapshotError
from fusion_env.run import Run
from fusion_env.vector_env import FusionDistillVectorEnv, make_sb3_vec_env
from fusion_env.workers import Workers, one_thread_each
from tests.processes import status_of

MakeVectorEnv = Callable[..., FusionDistillVectorEnv]
IN_TURN, AT_ONCE = 1, 3


@pytest.fixture
def make(tiny_cache: Path) -> Iterator[MakeVectorEnv]:
    """Makes vector environments of tiny students, and closes them."""
    made = []

    def make_env(num_envs: int = 2, **arguments: Any) -> FusionDistillVectorEnv:
        made.append(
            FusionDistillVectorEnv(num_envs, "tiny", **{"cache_dir": str(tiny_cache), "rounds": 2, **arguments})
        )
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def random_actions(seed: int, rounds: int, students: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (rounds, students, ACTION_SIZE)).astype(np.float32)


def rollout(env: FusionDistillVectorEnv, actions: NDArray[np.float32], seed: int = 0) -> list[Any]:
    return [plain(env.reset(seed=seed)), *steps(env, actions)]


def steps(env: FusionDistillVectorEnv, actions: NDArray[np.float32]) -> list[Any]:
    return [plain(env.step(action)) for action in actions]


def plain(outcome: Any) -> Any:
    """Return lists in place of arrays of arrays, which cannot be compared."""
    if isinstance(outcome, dict):
        return {name: plain(value) for name, value in outcome.items()}
    if isinstance(outcome, (list, tuple)) or (isinstance(outcome, np.ndarray) and outcome.dtype.hasobject):
        return [plain(value) for value in outcome]
    return outcome


def threads_of_students() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("student")]


def test_make_vec_gives_the_native_environment(tiny_cache: Path) -> None:
    env = gymnasium.make_vec("fusion_env/FusionDistillTiny-v0", num_envs=3, cache_dir=str(tiny_cache), rounds=2)
    assert isinstance(env.unwrapped, FusionDistillVectorEnv)
    observations, _ = env.reset(seed=5)
    assert observations.shape == (3, 10)
    assert len({id(single.unwrapped.task) for single in env.unwrapped.envs}) == 1  # data are shared
    env.close()


@pytest.mark.parametrize(
    ("students", "seed", "workers"),
    [
        (2, 5, IN_TURN),
        pytest.param(3, 2**31, 2, marks=pytest.mark.slow),
        pytest.param(4, 11, 4, marks=pytest.mark.slow),
    ],
)
def test_each_student_is_as_alone(make: MakeVectorEnv, students: int, seed: int, workers: int) -> None:
    env = make(students, workers=workers)
    actions = random_actions(seed, 4, students)
    outcome = rollout(env, actions, seed)
    for k in range(students):
        alone = FusionDistillEnv.from_task(env.envs[0].unwrapped.task)
        expected = [alone.reset(seed=seed + k)[0], *(alone.step(row)[0] for row in actions[:2, k]), alone.reset()[0]]
        expected.append(alone.step(actions[3, k])[0])
        assert all(np.array_equal(step[0][k], wanted) for step, wanted in zip(outcome, expected, strict=True))
        assert env.envs[k].unwrapped.run.rewards == alone.run.rewards == [outcome[-1][1][k]]
        last, wanted = env.envs[k].unwrapped.last_run, alone.last_run
        assert last.report == wanted.report
        assert all(torch.equal(tensor, wanted.student[name]) for name, tensor in last.student.items())


@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=() if mode is AutoresetMode.SAME_STEP else pytest.mark.slow) for mode in AutoresetMode],
)
def test_students_at_a_time_are_as_in_turn(make: MakeVectorEnv, mode: AutoresetMode) -> None:
    actions = random_actions(1, 4)
    results = []
    for workers in (IN_TURN, AT_ONCE):
        env = make(workers=workers, autoreset_mode=mode)
        if mode is AutoresetMode.DISABLED:
            results.append([rollout(env, actions[:2]), rollout(env, actions[2:], seed=9)])
        else:
            results.append(rollout(env, actions))
    np.testing.assert_equal(results[1], results[0])


def test_a_gpu_trains_as_many_students_at_a_time_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    counts = {device: Workers.for_cores(8, torch.device(device)).count for device in ("cpu", "cuda")}
    assert counts == {"cpu": 2, "cuda": 6}


def test_autoreset(make: MakeVectorEnv) -> None:
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env = make(rounds=1, autoreset_mode=mode, workers=AT_ONCE)
        first, _ = env.reset(seed=0)
        observations, _, _, truncated, infos = env.step(np.zeros((2, ACTION_SIZE), np.float32))
        assert truncated.all()
        if mode is AutoresetMode.NEXT_STEP:
            observations, rewards, *_ = env.step(np.zeros((2, ACTION_SIZE), np.float32))
            assert (rewards == 0).all()
        else:
            assert np.isfinite(infos["final_info"]["report"]).all()
            assert (infos["final_obs"][0] != observations[0]).any()
        assert np.array_equal(observations, first)


def test_without_autoreset_a_run_that_is_over_wants_a_reset(make: MakeVectorEnv) -> None:
    env = make(rounds=1, autoreset_mode=AutoresetMode.DISABLED, workers=AT_ONCE)
    actions = random_actions(0, 2)
    rollout(env, actions[:1])
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"students 0, 1 are over.*reset_mask"):
        env.step(actions[1])
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded, match="students 1 are over"):
        env.step(actions[1])


def test_runs_are_cut_off_where_it_is_asked(make: MakeVectorEnv) -> None:
    env = make(rounds=5, max_episode_steps=2, workers=AT_ONCE)
    ends = [step[3].tolist() for step in rollout(env, random_actions(0, 4))[1:]]
    assert ends == [[False, False], [True, True], [False, False], [False, False]]


@pytest.mark.parametrize("workers", [pytest.param(IN_TURN, marks=pytest.mark.slow), AT_ONCE])
def test_stable_baselines_form(tiny_cache: Path, workers: int) -> None:
    env = make_sb3_vec_env(2, "tiny", seed=3, cache_dir=str(tiny_cache), rounds=2, workers=workers)
    actions = random_actions(3, 3)
    assert env.reset().shape == (2, 10)
    steps = [env.step(action) for action in actions]
    _, _, dones, infos = steps[1]
    assert dones.all()
    for k, info in enumerate(infos):
        alone = FusionDistillEnv.from_task(env.get_attr("task")[0])
        alone.reset(seed=3 + k)
        alone.step(actions[0, k])
        final, reward, _, _, expected = alone.step(actions[1, k])
        assert np.array_equal(info["terminal_observation"], final)
        assert info["TimeLimit.truncated"]
        assert info["report"] == expected["report"]
        assert info["episode"]["r"] == round(sum(alone.run.rewards), 6)
        assert steps[1][1][k] == np.float32(reward)
        assert np.array_equal(steps[1][0][k], alone.reset()[0])
        assert steps[2][1][k] == np.float32(alone.step(actions[2, k])[1])
        assert env.get_attr("last_run")[k].report == alone.last_run.report
    env.close()
    assert not threads_of_students()


def test_an_action_that_cannot_be_used_trains_nobody(make: MakeVectorEnv) -> None:
    env = make(workers=AT_ONCE)
    env.reset(seed=0)
    actions = random_actions(0, 1)[0]
    actions[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"^student 1: .*finite"):
        env.step(actions)
    assert [member.unwrapped.run.rounds for member in env.envs] == [0, 0]


@pytest.mark.parametrize("workers", [pytest.param(IN_TURN, marks=pytest.mark.slow), AT_ONCE])
def test_a_student_that_fails_is_named(make: MakeVectorEnv, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    env = make(3, workers=workers)
    expected = rollout(env, random_actions(0, 2, 3))
    env.reset(seed=0)
    failing, train = env.envs[1].unwrapped.run, Run.train

    def fail(run: Run, *arguments: Any) -> None:
        if run is failing:
            raise RuntimeError("out of memory")
        train(run, *arguments)

    monkeypatch.setattr(Run, "train", fail)
    with pytest.raises(RuntimeError, match="^student 1: out of memory$"):
        env.step(random_actions(0, 1, 3)[0])
    monkeypatch.undo()
    np.testing.assert_equal(rollout(env, random_actions(0, 2, 3)), expected)  # nothing of the failed step is left


def test_close_ends_the_threads(make: MakeVectorEnv) -> None:
    env = make(3, workers=2)
    rollout(env, random_actions(0, 1, 3))
    assert len(threads_of_students()) == 2
    env.close()
    assert not threads_of_students()


def test_the_callers_state_is_nothing_to_the_students(make: MakeVectorEnv) -> None:
    actions = random_actions(0, 2)
    expected = rollout(make(workers=AT_ONCE), actions)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", torch.bfloat16):
            results = rollout(make(workers=AT_ONCE), actions)
            assert not torch.backends.mkldnn.enabled
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_equal(results, expected)


def test_each_student_computes_with_the_threads_of_the_caller(
    make: MakeVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, seen, train = make(workers=AT_ONCE), [], Run.train

    def look(run: Run, *arguments: Any) -> None:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        train(run, *arguments)

    monkeypatch.setattr(Run, "train", look)
    env.reset(seed=0)
    for threads in (2, 1):  # the number may change while the workers live
        torch.set_num_threads(threads)
        env.step(random_actions(0, 1)[0])
    assert {name.partition("_")[0] for name, _ in seen} == {"student"}
    assert [threads for _, threads in seen] == [2, 2, 1, 1]
    assert torch.get_num_threads() == 1


def test_as_many_students_at_a_time_as_the_cores_have_room_for(
    make: MakeVectorEnv, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fusion_env.workers")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)))
    assert make(4)._workers.count == 3
    assert make(2)._workers.count == 2
    assert not caplog.records
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert make(4)._workers.count == 1
    assert "1 of 4 students are trained at a time, each with 2 of 3 threads: the setting threads=1" in caplog.text


def test_several_students_have_one_thread_each_unless_asked_otherwise(make: MakeVectorEnv) -> None:
    config = make(1).envs[0].unwrapped.config
    assert config.threads is None
    assert make(2).envs[0].unwrapped.config.threads == 1
    asked = one_thread_each(2, {"config": config.replace(threads=2)})
    assert "threads" not in asked
    assert one_thread_each(2, {"config": config})["threads"] == 1
    assert one_thread_each(2, {"threads": None}) == {"threads": None}


@pytest.mark.parametrize("argument", ["num_envs", "workers"])
def test_numbers_below_one(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1. Got 0"):
        FusionDistillVectorEnv(**{"num_envs": 1, argument: 0})
    with pytest.raises(ValueError, match=f"{argument} must be at least 1. Got 0"):
        make_sb3_vec_env(**{"num_envs": 1, argument: 0})


@pytest.mark.slow
def test_fork_copies_all_students(make: MakeVectorEnv) -> None:
    env = make(workers=AT_ONCE)
    actions = random_actions(0, 2)
    rollout(env, actions[:1])
    copies = [env.fork(), copy.deepcopy(env), pickle.loads(pickle.dumps(env)), env.fork(seed=1)]
    expected, *results = [steps(each, actions[1:]) for each in (env, *copies)]
    for result in results[:3]:
        np.testing.assert_equal(result, expected)
    assert (results[3][0][1] != expected[0][1]).all()
    single = FusionDistillEnv.from_task(env.envs[0].unwrapped.task)
    single.reset(seed=1)
    single.step(actions[0, 1])
    assert single.fork(seed=2).step(actions[1, 1])[1] == results[3][0][1][1]
    for each in copies:
        each.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("rounds_before", [1, pytest.param(2, marks=pytest.mark.slow)])  # in a run, and at its end
def test_a_snapshot_goes_on_elsewhere(make: MakeVectorEnv, mode: AutoresetMode, rounds_before: int) -> None:
    arguments = {"rounds": 4, "max_episode_steps": 2, "autoreset_mode": mode, "workers": AT_ONCE}
    env, other = make(**arguments), make(**arguments)
    actions = random_actions(0, 5)
    rollout(env, actions[:rounds_before])
    other.load_state_dict(env.state_dict())
    expected, result = (steps(each, actions[rounds_before:]) for each in (env, other))
    np.testing.assert_equal(result, expected)


def test_a_snapshot_that_does_not_fit_changes_nothing(make: MakeVectorEnv) -> None:
    env, actions = make(), random_actions(0, 1)
    env.reset(seed=0)
    good = env.state_dict()
    bad = {**good, "students": [good["students"][0], {**good["students"][1], "version": 0}]}
    for state, words in ((bad, "student 1: .*version"), ({}, "snapshot is of 0 students, this environment has 2")):
        with pytest.raises(SnapshotError, match=words):
            env.load_state_dict(state)
    np.testing.assert_equal(steps(env, actions), rollout(make(), actions)[1:])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own(make: MakeVectorEnv) -> None:
    env, actions = make(workers=AT_ONCE), random_actions(0, 2)
    expected = rollout(make(), actions)[2:]
    rollout(env, actions[:1])
    child = os.fork()
    if not child:
        signal.alarm(60)
        status = 1
        try:
            np.testing.assert_equal(steps(env, actions[1:]), expected)
            env.close()
            status = 0
        finally:
            os._exit(status)
    assert status_of(child, 120) == 0
    np.testing.assert_equal(steps(env, actions[1:]), expected)
