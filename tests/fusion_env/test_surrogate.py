"""The surrogate environment: the interface of the real one, and a model that is the same alone and beside others."""

import warnings
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import fusion_env
from fusion_env.action import ACTION_NAMES, ACTION_SIZE
from fusion_env.config import INDICATORS
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError
from fusion_env.info import NamedValues
from fusion_env.surrogate import load_surrogate
from student.weights import WeightsError, load_state

ID = "fusion_env/FusionDistillSurrogate-v0"
ASSETS = Path(fusion_env.__file__).parent / "assets"
MIDDLE = np.zeros(ACTION_SIZE, np.float32)


def play(seed: int | None, steps: int, **settings: float) -> list[np.ndarray]:
    """Return observation and reward of every step under seeded random actions; over runs, as vector environments do."""
    env, rng = gymnasium.make(ID, **settings), np.random.default_rng(0)
    seen, over = [np.append(env.reset(seed=seed)[0], 0.0)], False
    for _ in range(steps):
        action = rng.uniform(-1, 1, ACTION_SIZE)
        if over:
            seen.append(np.append(env.reset()[0], 0.0))
            over = False
            continue
        observation, reward, terminated, over, _ = env.step(action)
        assert not terminated
        seen.append(np.append(observation, reward))
    return seen


def test_both_checkers_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(ID).unwrapped)
        sb3_check_env(gymnasium.make(ID).unwrapped)


def test_the_interface_is_that_of_the_environment_it_imitates(tiny_env: Callable[..., FusionDistillEnv]) -> None:
    real, surrogate = tiny_env(score_metrics=("vif", "iqa")), gymnasium.make(ID)
    assert surrogate.action_space == real.action_space
    assert surrogate.observation_space == real.observation_space
    for step in (lambda env: env.reset(seed=0), lambda env: env.step(MIDDLE)):
        theirs, ours = step(real)[-1], step(surrogate)[-1]
        assert set(theirs) - set(ours) == {"losses", "guidance_share", "update_norm", "fused_std", "report"}
        for name, value in ours.items():
            assert type(value) is type(theirs[name]), name
            assert np.asarray(value).dtype == np.asarray(theirs[name]).dtype, name
            if isinstance(value, NamedValues):
                assert list(value) == list(theirs[name])
    assert ours["loss_weights"] == theirs["loss_weights"]
    assert ours["degradation"] == theirs["degradation"]


def test_a_run() -> None:
    env = gymnasium.make(ID)
    model = env.unwrapped.model
    observation, info = env.reset(seed=0)
    assert not observation[:5].any()  # the stage-0 student itself
    assert info["round"] == 0
    for done in range(1, model.config.rounds + 1):
        observation, reward, terminated, truncated, info = env.step(MIDDLE)
        assert info["round"] == done
        assert (terminated, truncated) == (False, done == model.config.rounds)
        own, teacher = (np.array([info[whose][name] for name in INDICATORS]) for whose in ("student", "teacher"))
        expected = np.concatenate([own / model.stage0 - 1, own / teacher - 1])
        assert observation == pytest.approx(np.clip(5 * expected, -10, 10), abs=1e-6)
        assert reward == info["gap"] == pytest.approx((own / teacher - 1)[[2, 4]].mean())  # VIF and IQA


def test_seeds() -> None:
    assert np.array_equal(play(3, 24), play(3, 24))
    assert not np.array_equal(play(3, 10), play(4, 10))
    assert np.array_equal(play(3, 10, noise=0.0), play(4, 10, noise=0.0))


def test_every_number_of_the_action_counts() -> None:
    def first_reward(action: np.ndarray) -> float:
        env = gymnasium.make(ID, noise=0.0)
        env.reset(seed=0)
        return env.step(action)[1]

    for number, name in enumerate(ACTION_NAMES):
        low, high = MIDDLE.copy(), MIDDLE.copy()
        low[number], high[number] = -1, 1
        assert first_reward(low) != first_reward(high), name


def test_students_beside_each_other_are_as_alone() -> None:
    envs, rng = gymnasium.make_vec(ID, num_envs=3), np.random.default_rng(0)
    observations, infos = envs.reset(seed=5)
    seen = [np.column_stack([observations, np.zeros(3)])]
    for _ in range(24):  # two ends, with the step after each that begins anew
        actions = np.tile(rng.uniform(-1, 1, ACTION_SIZE), (3, 1))
        observations, rewards, terminations, truncations, infos = envs.step(actions)
        assert not terminations.any()
        seen.append(np.column_stack([observations, rewards]))
    for student in range(3):
        assert np.stack(seen)[:, student] == pytest.approx(np.stack(play(5 + student, 24)), abs=1e-5)
    assert infos["student"].shape == (3, 5)
    assert infos["_student"].all()
    assert infos["round"].tolist() == [2, 2, 2]
    assert not truncations.any()


def test_vector_environments_of_gymnasium_take_it() -> None:
    envs = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", noise=0.5)
    envs.reset(seed=[3, 4])
    assert envs.step(envs.action_space.sample())[1].shape == (2,)
    mixed = gymnasium.make_vec(ID, num_envs=2)
    assert mixed.reset(seed=[3, None])[0].shape == (2, 10)


def test_misuse() -> None:
    env, envs = gymnasium.make(ID).unwrapped, gymnasium.make_vec(ID, num_envs=2)
    for unready in (env, envs):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"call reset\(\) before step\(\)"):
            unready.step(np.zeros(unready.action_space.shape))
    env.reset(seed=0), envs.reset(seed=0)
    for wrong, message in ((MIDDLE[:3], "must have shape"), (MIDDLE * np.nan, "must be finite")):
        with pytest.raises(ValueError, match=message):
            env.step(wrong)
        with pytest.raises(ValueError, match=message):
            envs.step(np.stack([wrong, wrong]))
    with pytest.raises(ValueError, match="an action for each of 2 students. Got 3"):
        envs.step(np.zeros((3, ACTION_SIZE)))
    with pytest.raises(ValueError, match="a seed for each of 2 students. Got 1"):
        envs.reset(seed=[3])
    for _ in range(env.model.config.rounds):
        env.step(MIDDLE)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(MIDDLE)
    for factor in (-1, float("nan")):
        with pytest.raises(ConfigError, match="noise must be a number of 0 or more"):
            gymnasium.make(ID, noise=factor)
    with pytest.raises(ConfigError, match="num_envs must be at least 1"):
        gymnasium.make_vec(ID, num_envs=0, vectorization_mode="vector_entry_point")
    with pytest.raises(WeightsError, match="nowhere"):
        load_surrogate("nowhere")
    with pytest.raises(WeightsError, match=r"quality\.safetensors is no model of a surrogate"):
        load_surrogate(ASSETS / "quality.safetensors")


def test_the_asset_is_small_and_has_its_card() -> None:
    file = ASSETS / "surrogate.safetensors"
    assert file.stat().st_size < 200 * 1024
    assert (
        f"fingerprint `{fusion_env.fingerprint.fingerprint('', load_state(file))}`"
        in (ASSETS / "surrogate.md").read_text()
    )
