import copy
import pickle
import random
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import fusion_env  # noqa: F401 (registers the ids)
from fusion_env.action import ACTION_SIZE, action_table, even_action
from fusion_env.config import INDICATORS, DistillConfig
from fusion_env.data import write_png
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, MissingRequirementsError, SnapshotError
from fusion_env.observation import observation_table
from fusion_env.render import has_display
from student.weights import build_student

MakeEnv = Callable[..., FusionDistillEnv]
IDS = ("fusion_env/FusionDistill-v0", "fusion_env/FusionDistillPaper-v0", "fusion_env/FusionDistillTiny-v0")

SMALL_DEMO = {"scenes": 5, "rounds": 3, "bank_size": 8, "iterations": 1, "batch_size": 2}


def play(env: gymnasium.Env, seed: int, rounds: int) -> list[np.ndarray]:
    """Reset and take seeded random actions; everything that came back, as arrays."""
    rng = np.random.default_rng(seed)
    seen = [env.reset(seed=seed)[0]]
    for _ in range(rounds):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32))
        seen.append(np.append(observation, reward))
    return seen


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def paper_overrides(reference_dir: Path, tiny_cache: Path) -> dict:
    """The paper's id on a few small images, with explicitly untrained networks."""
    return {
        "data": str(reference_dir / "data" / "mini"),
        "perception": "vgg19-untrained",
        "iqa": "clip-untrained",
        "teacher": "laplacian",
        "student_init": "random",
        "crop_size": 64,
        "batch_size": 2,
        "bank_size": 8,
        "stage0_rounds": 1,
        "rounds": 3,
        "iterations": 1,
        "score_size": 64,
        "score_crops": 2,
        "score_images": 1,
        "cache_dir": str(tiny_cache),
    }


@pytest.mark.parametrize(
    "env_id", [pytest.param(name, marks=() if "Tiny" in name else pytest.mark.slow) for name in IDS]
)
def test_every_id_passes_both_checkers_without_a_warning(
    env_id: str, tiny_cache: Path, request: pytest.FixtureRequest
) -> None:
    overrides = {"cache_dir": str(tiny_cache), "render_mode": "rgb_array"}
    if "Paper" in env_id:
        overrides |= request.getfixturevalue("paper_overrides")
    elif "Tiny" not in env_id:
        overrides |= SMALL_DEMO
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (gymnasium.make(env_id, **overrides).unwrapped for _ in range(2))  # they share the networks
        check_env(first)
        sb3_check_env(second)


def test_paper_id_without_weights_and_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementsError) as error:
        gymnasium.make("fusion_env/FusionDistillPaper-v0", cache_dir=str(tmp_path / "cache"))
    message = str(error.value)
    for part in ("M3FD", "github.com", "data=DIR", "Enc_final.pt", "teacher_weights", "demo"):
        assert part in message
    assert "\n" not in message
    assert not (tmp_path / "cache").exists()


def test_spaces_and_first_observation(tiny_env: MakeEnv) -> None:
    env = tiny_env()
    observation, info = env.reset(seed=0)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
    assert observation.shape == (10,)
    assert observation.dtype == np.float32
    own = np.array([info["student"][name] for name in INDICATORS])
    teacher = np.array([info["teacher"][name] for name in INDICATORS])
    assert not observation[:5].any()  # the stage-0 student itself
    assert np.allclose(observation[5:], np.clip(5 * (own / teacher - 1), -10, 10), atol=1e-5)


def test_reward_is_equation_6(tiny_env: MakeEnv) -> None:
    env = tiny_env()
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.zeros(ACTION_SIZE))
    means = env.task.scorer.teacher_means
    own = np.mean([info["student"][name] / means[name] for name in ("vif", "iqa", "ssim")])
    assert type(reward) is float
    assert reward == pytest.approx(own - 1.0, abs=1e-6)


def test_gap_delta_sums_to_the_change_of_the_gap(tiny_env: MakeEnv) -> None:
    env = tiny_env(reward="gap_delta", rounds=4)
    _, info = env.reset(seed=0)
    rewards, gap = [], info["gap"]
    for _ in range(4):
        _, reward, _, _, info = env.step(env.encode_action(guidance=0.9))
        rewards.append(reward)
    assert sum(rewards) == pytest.approx(info["gap"] - gap, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "size"), [("vector", 10), ("vector+time", 11), ("scalar", 2), ("performance", 5), ("gap", 5)]
)
def test_observation_variants(tiny_env: MakeEnv, kind: str, size: int) -> None:
    env = tiny_env(observation=kind, rounds=2, score_images=2)
    full = tiny_env(rounds=2, score_images=2)
    action = np.zeros(ACTION_SIZE)
    for step in range(3):
        seen, whole = (e.reset(seed=3)[0] if step == 0 else e.step(action)[0] for e in (env, full))
        expected = {
            "vector": whole,
            "vector+time": np.append(whole, step / 2),
            "scalar": [whole[:5].mean(), whole[5:].mean()],
            "performance": whole[:5],
            "gap": whole[5:],
        }[kind]
        assert env.observation_space.contains(seen)
        assert seen.shape == (size,)
        if np.abs(whole).max() < 10:  # clipping happens after the mean
            assert np.allclose(seen, expected, atol=1e-5)


def test_the_end_of_the_budget(tiny_env: MakeEnv) -> None:
    for kind, expected in (("vector", (False, True)), ("vector+time", (True, False))):
        env = tiny_env(rounds=2, observation=kind)
        env.reset(seed=0)
        assert env.step(np.zeros(ACTION_SIZE))[2:4] == (False, False)
        *_, terminated, truncated, info = env.step(np.zeros(ACTION_SIZE))
        assert (terminated, truncated) == expected
        assert set(info["report"]) == {"student", "teacher"}
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(np.zeros(ACTION_SIZE))


def test_step_before_reset(tiny_env: MakeEnv) -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        tiny_env().step(np.zeros(ACTION_SIZE))


def test_same_seed_same_trajectory(tiny_env: MakeEnv) -> None:
    runs = {seed: play(tiny_env(), seed, 5) for seed in (0, 1)}
    assert equal(runs[0], play(tiny_env(), 0, 5))
    assert equal(runs[1], play(tiny_env(), 1, 5))
    assert not equal(runs[0], runs[1])


def test_interleaved_envs_do_not_disturb_each_other(tiny_env: MakeEnv) -> None:
    alone = [play(tiny_env(), seed, 3) for seed in (0, 1)]
    envs = [tiny_env(), tiny_env()]
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    seen = [[env.reset(seed=seed)[0]] for seed, env in enumerate(envs)]
    for _ in range(3):
        for env, rng, out in zip(envs, rngs, seen, strict=True):
            observation, reward, *_ = env.step(rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32))
            out.append(np.append(observation, reward))
    assert equal(alone[0], seen[0])
    assert equal(alone[1], seen[1])


def test_a_second_run_starts_from_stage_0_with_fresh_draws(tiny_env: MakeEnv) -> None:
    env = tiny_env(rounds=2)
    first = play(env, 0, 2)
    observation, _ = env.reset()
    assert np.array_equal(observation, first[0])
    later = env.step(np.random.default_rng(0).uniform(-1, 1, ACTION_SIZE))[0]
    assert not np.array_equal(later, first[1][:10])


def test_global_random_state_is_untouched(tiny_env: MakeEnv) -> None:
    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = state()
    env = tiny_env(data_seed=77)  # built anew
    play(env, 0, 2)
    env.fork().step(np.zeros(ACTION_SIZE))
    assert state() == before
    reference = play(tiny_env(), 5, 2)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert equal(reference, play(tiny_env(), 5, 2))


@pytest.mark.parametrize("coordinate", range(ACTION_SIZE))
def test_every_action_coordinate_matters(tiny_env: MakeEnv, coordinate: int) -> None:
    students = []
    for value in (-0.5, 0.5):
        env = tiny_env()
        env.reset(seed=0)
        action = np.zeros(ACTION_SIZE)
        action[coordinate] = value
        env.step(action)
        students.append(torch.cat([p.flatten() for p in env.student.parameters()]))
    assert not torch.equal(*students)


@pytest.mark.slow
def test_weights_move_the_gradient_share_on_demo(tiny_cache: Path) -> None:
    overrides = {**SMALL_DEMO, "batch_size": 8, "bank_size": 16, "cache_dir": str(tiny_cache)}
    shares = []
    for guidance in (0.997, 0.003):
        env = FusionDistillEnv("demo", **overrides)
        env.reset(seed=0)
        *_, info = env.step(even_action(0.5, guidance=guidance))
        shares.append(info["guidance_share"])
    assert shares[0] > 0.8
    assert shares[1] < 0.2


@pytest.mark.parametrize("bad", [[np.nan] * ACTION_SIZE, [0] * (ACTION_SIZE - 1), [*[0] * (ACTION_SIZE - 1), np.inf]])
def test_a_bad_action_trains_nothing(tiny_env: MakeEnv, bad: list[float]) -> None:
    env = tiny_env()
    env.reset(seed=0)
    before = copy.deepcopy(env.student.state_dict())
    with pytest.raises(ValueError, match="action must"):
        env.step(bad)
    assert all(torch.equal(before[name], tensor) for name, tensor in env.student.state_dict().items())
    env.step(np.zeros(ACTION_SIZE))  # the run goes on


def test_fork_is_equal_and_independent(tiny_env: MakeEnv) -> None:
    env = tiny_env(score_images=2)
    play(env, 0, 2)
    fork = env.fork()
    assert fork.task is env.task
    actions = np.random.default_rng(1).uniform(-1, 1, (4, ACTION_SIZE))
    ahead = [env.step(action) for action in actions]
    behind = [fork.step(action) for action in actions]
    for a, b in zip(ahead, behind, strict=True):
        assert np.array_equal(a[0], b[0])
        assert a[1] == b[1]
    for name, tensor in env.student.state_dict().items():
        assert torch.equal(tensor, fork.student.state_dict()[name])
    assert np.array_equal(env.reset()[0], fork.reset()[0])  # the environment's own stream was copied as well
    assert env.step(actions[0])[1] == fork.step(actions[0])[1]


def test_fork_with_a_seed_has_random_streams_of_its_own(tiny_env: MakeEnv) -> None:
    env = tiny_env(score_images=2)
    play(env, 0, 2)
    action = np.full(ACTION_SIZE, 0.5)
    rewards = [fork.step(action)[1] for fork in (env.fork(), env.fork(seed=1), env.fork(seed=1), env.fork(seed=2))]
    assert rewards[1] == rewards[2]
    assert len(set(rewards)) == 3
    first, second = env.fork(seed=1), env.fork(seed=2)
    assert torch.equal(*(fork.student.state_dict()["decoder.model_up.0.weight"] for fork in (first, second)))
    assert not np.array_equal(first.reset()[0], second.reset()[0])
    assert env.step(action)[1] == rewards[0]


def test_snapshot_through_a_file(tiny_env: MakeEnv, tmp_path: Path) -> None:
    env = tiny_env(score_images=2)
    play(env, 0, 3)
    torch.save(env.state_dict(), tmp_path / "state.pt")
    other = tiny_env(score_images=2)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(5):
        a, b = (e.step(np.full(ACTION_SIZE, 0.3)) for e in (env, other))
        assert np.array_equal(a[0], b[0])
        assert a[1] == b[1]
        assert a[4] == b[4]


def test_snapshot_of_another_configuration_is_refused(tiny_env: MakeEnv) -> None:
    env, other = tiny_env(), tiny_env(learning_rate=0.001)
    env.reset(seed=0), other.reset(seed=0)
    with pytest.raises(SnapshotError, match="learning_rate"):
        other.load_state_dict(env.state_dict())
    with pytest.raises(SnapshotError, match="missing"):
        other.load_state_dict({"x": 1})
    with pytest.raises(SnapshotError, match="snapshot version 1 is not 3: make a new one"):
        other.load_state_dict({**env.state_dict(), "version": 1})
    with pytest.raises(SnapshotError, match="damaged"):
        env.load_state_dict({**env.state_dict(), "run": {"values": "{}"}})
    with pytest.raises(gymnasium.error.ResetNeeded):
        tiny_env().state_dict()


def test_divergence_ends_the_run_and_never_pays(tiny_env: MakeEnv) -> None:
    env = tiny_env(rounds=6)
    env.reset(seed=0)
    last, *_ = env.step(np.zeros(ACTION_SIZE))
    healthy = copy.deepcopy(env.student.state_dict())
    fork = env.fork()
    env.run.engine.learning_rate = float("nan")
    observation, reward, terminated, truncated, info = env.step(np.zeros(ACTION_SIZE))
    assert (terminated, truncated) == (True, False)
    assert info["diverged"]
    assert reward == -5.0  # this round and four more
    assert np.array_equal(observation, last)
    assert env.last_run.diverged
    # What is kept is the last finite student.
    assert all(torch.equal(healthy[name], env.last_run.last_student[name]) for name in healthy)
    # The worst that can happen to a finite student, a constant image, still earns more from the same state.
    with torch.no_grad():
        for parameter in fork.student.parameters():
            parameter.zero_()
    fork.run.engine.learning_rate = 0.0
    assert sum(fork.step(np.zeros(ACTION_SIZE))[1] for _ in range(5)) > reward


def test_scores_that_are_not_finite_are_divergence_too(tiny_env: MakeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tiny_env(rounds=3)
    env.reset(seed=0)
    _, _, _, _, before = env.step(np.zeros(ACTION_SIZE))
    healthy = copy.deepcopy(env.student.state_dict())
    nothing = dict.fromkeys(INDICATORS, float("inf"))
    monkeypatch.setattr(env.task.scorer, "score", lambda *_, **__: (nothing, nothing, 0.0))
    _, reward, terminated, _, info = env.step(np.zeros(ACTION_SIZE))
    assert (reward, terminated, info["diverged"]) == (-2.0, True, True)
    assert all(torch.equal(healthy[name], tensor) for name, tensor in env.student.state_dict().items())
    assert (info["student"], info["gap"]) == (before["student"], before["gap"])


def test_an_abandoned_run_keeps_its_student_and_loses_the_missing_rounds(tiny_env: MakeEnv) -> None:
    env = tiny_env(rounds=6)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.abandon()
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, ACTION_SIZE)).astype(np.float32)
    rewards = [env.step(action)[1] for action in actions]
    student = copy.deepcopy(env.student.state_dict())
    last = env.abandon()
    assert env.last_run is last
    assert last.diverged
    assert last.rewards == (*rewards, -4.0)
    assert np.array_equal(last.actions, actions)
    assert all(torch.equal(student[name], tensor) for name, tensor in last.last_student.items())
    assert last.last_report == pytest.approx(env.task.report.score(env.student), rel=1e-5)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(actions[0])
    env.reset()
    assert env.abandon().actions.shape == (0, ACTION_SIZE)


def run_with_gaps(env: FusionDistillEnv, gaps: list[float], monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Play a run whose scores are as given; return the student's weights at every point."""
    coming = iter(gaps)
    monkeypatch.setattr(env.task.scorer, "gap", lambda student, teacher: next(coming))
    env.reset(seed=0)
    students = [copy.deepcopy(env.student.state_dict())]
    for _ in gaps[1:]:
        env.step(np.zeros(ACTION_SIZE))
        students.append(copy.deepcopy(env.student.state_dict()))
    return students


@pytest.mark.parametrize(
    ("gaps", "best"),
    [
        ([-0.5, -0.4, -0.3, -0.4], 2),
        ([-0.1, -0.4, -0.3, -0.4], 0),
        ([-0.5, -0.3, -0.3, -0.4], 2),
        ([-0.5, -0.4, -0.3, -0.3], 3),
    ],
)
def test_the_best_student_is_delivered(
    tiny_env: MakeEnv, monkeypatch: pytest.MonkeyPatch, gaps: list[float], best: int
) -> None:
    env = tiny_env(rounds=3)
    students = run_with_gaps(env, gaps, monkeypatch)
    last = env.last_run
    assert last.best_round == best
    for state, expected, report in (
        (last.student, students[best], last.report),
        (last.last_student, students[3], last.last_report),
    ):
        assert all(torch.equal(expected[name], tensor) for name, tensor in state.items())
        assert report == env.task.report.score(build_student(state, "test"))
    assert (last.report == last.last_report) == (best == 3)


@pytest.mark.parametrize(
    "moved", [FusionDistillEnv.fork, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env)), None]
)
def test_the_best_student_goes_with_the_run(
    tiny_env: MakeEnv, monkeypatch: pytest.MonkeyPatch, moved: Callable | None
) -> None:
    env = tiny_env(rounds=9)
    students = run_with_gaps(env, [-0.5, -0.3, -0.4], monkeypatch)
    if moved is None:
        other = tiny_env(rounds=9)
        other.load_state_dict(env.state_dict())
    else:
        other = moved(env)
    last = other.abandon()
    assert last.best_round == 1
    assert all(torch.equal(students[1][name], tensor) for name, tensor in last.student.items())
    assert all(torch.equal(students[2][name], tensor) for name, tensor in last.last_student.items())


def test_the_manual_page_holds_the_tables() -> None:
    page = FusionDistillEnv.__doc__
    for row in (
        *action_table().splitlines(),
        *observation_table("vector").splitlines(),
        *observation_table("rich").splitlines(),
    ):
        assert f"    {row}\n" in page
    assert f"`Box(-1, 1, ({ACTION_SIZE},), float32)`" in page
    assert "{" not in page


def test_huge_learning_rate_terminates_or_stays_finite(tiny_env: MakeEnv) -> None:
    env = tiny_env(learning_rate=1e6, stage0_rounds=0, rounds=4)
    env.reset(seed=0)
    for _ in range(4):
        observation, reward, terminated, truncated, _ = env.step(np.zeros(ACTION_SIZE))
        assert np.isfinite(observation).all()
        assert reward >= -4
        if terminated or truncated:
            break
    assert all(tensor.isfinite().all() for tensor in env.last_run.student.values())


def test_parity_stops_the_run_only_where_asked(tiny_env: MakeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in (True, False):
        env = tiny_env(stop_at_parity=asked, score_images=2)
        env.reset(seed=0)
        monkeypatch.setattr(env.task.scorer, "score_e", lambda scores: 1.0)
        ends = [env.step(np.zeros(ACTION_SIZE))[2] for _ in range(3)]
        assert ends == [False, False, asked]
        monkeypatch.undo()


@pytest.mark.parametrize("seen", [{}, {"camera": "rough", "score_size": None, "score_crops": None}])
def test_report_split_is_never_seen(
    seen: dict[str, Any], tiny_config: Callable[..., DistillConfig], tmp_path: Path
) -> None:
    runs, reports = [], []
    for change in (False, True):
        root = tmp_path / f"data{change}"
        rng = np.random.default_rng(0)
        names = [f"{i}" for i in range(6)]
        for name in names:
            shift = 90 if change and name in names[4:] else 0
            base = rng.integers(0, 160, (64, 64))
            write_png(root / "ir" / f"{name}.png", (base + shift).astype(np.uint8))
            write_png(root / "vi" / f"{name}.png", np.repeat((base.T + shift)[..., None], 3, 2).astype(np.uint8))
        (root / "train.txt").write_text("\n".join(names[:4]))
        (root / "val.txt").write_text("\n".join(names[4:]))
        env = FusionDistillEnv(config=tiny_config(data=str(root), rounds=3, **seen))
        runs.append(play(env, 0, 3))
        reports.append(env.last_run.report)
    assert equal(*runs)
    assert reports[0] != reports[1]


@pytest.mark.parametrize("vec_env", [DummyVecEnv, pytest.param(SubprocVecEnv, marks=pytest.mark.slow)])
def test_last_run_survives_the_reset_inside_a_vector_env(
    vec_env: type, tiny_config: Callable[..., DistillConfig], tiny_env: MakeEnv
) -> None:
    config = tiny_config(rounds=2, threads=1)
    alone = FusionDistillEnv(config=config)
    alone.reset(seed=4)
    for _ in range(2):
        alone.step(np.zeros(ACTION_SIZE))
    options = {} if vec_env is DummyVecEnv else {"start_method": "spawn"}
    venv = vec_env([lambda: FusionDistillEnv(config=config)], **options)
    try:
        venv.seed(4)
        venv.reset()
        for _ in range(2):
            *_, dones, infos = venv.step(np.zeros((1, ACTION_SIZE)))
        assert dones[0]
        last = venv.get_attr("last_run")[0]
        assert infos[0]["report"]["student"] == last.report == alone.last_run.report
        assert all(torch.equal(alone.last_run.student[name], tensor) for name, tensor in last.student.items())
    finally:
        venv.close()


@pytest.mark.parametrize(
    ("algorithm", "settings"), [(PPO, {"n_steps": 4, "batch_size": 4}), (SAC, {"learning_starts": 3})]
)
def test_stable_baselines_learns(tiny_env: MakeEnv, algorithm: type, settings: dict) -> None:
    model = algorithm("MlpPolicy", tiny_env(rounds=4), seed=0, **settings)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(8)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_info_has_no_clock_and_timings_have(tiny_env: MakeEnv) -> None:
    env = tiny_env()
    env.reset(seed=0)
    *_, info = env.step(np.zeros(ACTION_SIZE))
    assert not any("time" in key or "second" in key for key in info)
    assert {"data", "degradation", "student", "perception", "backward", "update", "scoring"} <= set(env.timings)
    assert all(value >= 0 for value in env.timings.values())


def test_encode_action_uses_the_environments_scale(tiny_env: MakeEnv) -> None:
    env = tiny_env(logit_scale=2.0)
    env.reset(seed=0)
    *_, info = env.step(env.encode_action(guidance=0.7, blur_kernel=5, jpeg_quality=60, noise_std=0.05))
    assert info["loss_weights"]["guidance"] == pytest.approx(0.7, abs=1e-6)
    assert info["degradation"]["blur_kernel"] == 5
    assert info["degradation"]["jpeg_quality"] == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"score_metrics": ("ag",)},
        {"score_crops": 3},
        {"score_images": 1},
        {"score_size": 50},
        {"iqa_colour": True},
        {"data_seed": 1},
        {"stage0_seed": 1},
        {"stage0_rounds": 2},
        {"crop_size": 40},
        {"bank_size": 8},
        {"guidance": False},
        {"self_learning": False},
        {"obs_scale": 1.0},
        {"scenes": 12},
        {"scene_height": 72},
        {"scene_width": 88},
        {"logit_scale": 1.0},
        {"teacher_context": "image"},
        {
            "normalisation": "minmax",
            "minmax_bounds": (0, 20, 0, 200, 0, 1, 0, 80, 0, 1),
            "score_metrics": ("vif", "iqa"),
        },
    ],
)
def test_every_setting_has_an_effect(tiny_env: MakeEnv, change: dict) -> None:
    action = even_action(0.5, guidance=0.7)

    def trajectory(env: FusionDistillEnv) -> np.ndarray:
        first, _ = env.reset(seed=0)
        observation, reward, *_ = env.step(action)
        return np.concatenate([first, observation, [reward]])

    assert not np.array_equal(trajectory(tiny_env()), trajectory(tiny_env(**change)))


def test_render(tiny_env: MakeEnv, tiny_config: Callable[..., DistillConfig]) -> None:
    env = FusionDistillEnv(config=tiny_config(), render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.ones(ACTION_SIZE))
    after = env.render()
    assert before.shape == after.shape
    assert before.dtype == np.uint8
    assert not np.array_equal(before, after)
    fork = env.fork()
    env.render()
    assert env.step(np.zeros(ACTION_SIZE))[1] == fork.step(np.zeros(ACTION_SIZE))[1]  # drawing does not touch the run


@pytest.mark.skipif(has_display(), reason="there is a display")
def test_human_rendering_needs_a_display(tiny_config: Callable[..., DistillConfig]) -> None:
    with pytest.raises(ConfigError, match="needs a display"):
        FusionDistillEnv(config=tiny_config(), render_mode="human")


def test_record_video(tiny_config: Callable[..., DistillConfig], tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = FusionDistillEnv(config=tiny_config(rounds=3), render_mode="rgb_array")
    video = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    play(video, 0, 3)
    video.close()
    assert [file.suffix for file in (tmp_path / "videos").iterdir()] == [".mp4"]


@pytest.mark.slow
def test_threads_are_set(tiny_env: MakeEnv) -> None:
    before = torch.get_num_threads()
    try:
        tiny_env(threads=2, stage0_rounds=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_teacher_too_flat_to_divide_by(tiny_env: MakeEnv, tmp_path: Path) -> None:
    for name in "abcd":
        write_png(tmp_path / "data" / "ir" / f"{name}.png", np.full((64, 64), 90, np.uint8))
        write_png(tmp_path / "data" / "vi" / f"{name}.png", np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(ConfigError, match="too small to divide by"):
        tiny_env(data=str(tmp_path / "data"))


@pytest.mark.parametrize(
    "changes", [{}, {"learning_rate": 1e30, "stage0_rounds": 0}, {"self_learning": False, "score_images": 2}]
)
def test_info_has_one_schema(tiny_env: MakeEnv, changes: dict[str, Any]) -> None:
    env = tiny_env(rounds=2, **changes)
    first = env.reset(seed=0)[1]
    schema = {name: (type(value), value.dtype, value.shape) for name, value in first.items()}
    terminated = truncated = False
    while not (terminated or truncated):
        *_, terminated, truncated, info = env.step(np.zeros(ACTION_SIZE))
        assert {name: (type(value), value.dtype, value.shape) for name, value in info.items()} == schema
    assert np.isnan(np.asarray(first["report"])).all()
    assert np.isfinite(np.asarray(info["report"])).all()
    assert info["report"]["student"] == env.last_run.report


def test_infos_of_vector_environments_are_arrays(tiny_env: MakeEnv) -> None:
    env = gymnasium.make_vec("fusion_env/FusionDistillTiny-v0", num_envs=2, config=tiny_env().config)
    single, infos = tiny_env().reset(seed=0)[1], env.reset(seed=0)[1]
    for name, value in single.items():
        assert infos[name].shape == (2, *value.shape)
        assert infos[name].dtype == value.dtype


def test_a_run_that_is_cut_off_leaves_a_report(tiny_env: MakeEnv) -> None:
    config = tiny_env().config
    env = gymnasium.make("fusion_env/FusionDistillTiny-v0", max_episode_steps=2, config=config)
    env.reset(seed=0)
    for _ in range(2):
        *_, truncated, info = env.step(np.zeros(ACTION_SIZE, np.float32))
    assert truncated
    assert np.isnan(info["report"]["student"]["e"])
    student = {name: tensor.clone() for name, tensor in env.unwrapped.student.state_dict().items()}
    env.reset()
    last = env.unwrapped.last_run
    assert last.actions.shape == (2, ACTION_SIZE)
    assert np.isfinite(last.report["e"])
    assert all(torch.equal(tensor, student[name]) for name, tensor in last.last_student.items())


def test_a_run_that_was_closed_leaves_a_report(tiny_env: MakeEnv) -> None:
    env = tiny_env()
    env.reset(seed=0)
    env.step(np.zeros(ACTION_SIZE, np.float32))
    env.close()
    assert env.last_run.actions.shape == (1, ACTION_SIZE)
    env.reset()
    for _ in range(2):
        env.step(np.zeros(ACTION_SIZE, np.float32))
    env.close()
    assert env.last_run.actions.shape == (1, ACTION_SIZE)  # many clients close in the middle of their next run


def test_a_student_frozen_by_the_caller_is_trained(tiny_env: MakeEnv) -> None:
    env, other = tiny_env(), tiny_env()
    for each in (env, other):
        each.reset(seed=0)
    env.student.requires_grad_(False)
    assert env.step(np.zeros(ACTION_SIZE))[1] == other.step(np.zeros(ACTION_SIZE))[1]


def test_a_snapshot_can_be_loaded_again(tiny_env: MakeEnv) -> None:
    env = tiny_env()
    env.reset(seed=0)
    env.step(np.zeros(ACTION_SIZE))
    snapshot = env.state_dict()
    rewards = []
    for _ in range(2):
        env.load_state_dict(snapshot)
        rewards.append([env.step(np.full(ACTION_SIZE, value))[1] for value in (0.2, 0.4)])
    assert rewards[0] == rewards[1]


def test_a_configuration_that_is_none(tiny_env: MakeEnv) -> None:
    with pytest.raises(TypeError, match="config must be a DistillConfig. Got dict; settings are keywords"):
        FusionDistillEnv(config={"rounds": 3})


def test_the_spec_states_the_rounds_and_truncates_nothing(tiny_env: MakeEnv) -> None:
    config = tiny_env(rounds=3).config
    env = gymnasium.make("fusion_env/FusionDistillTiny-v0", config=config)
    assert env.spec.max_episode_steps == 3
    assert "TimeLimit" not in str(env)
    timed = gymnasium.make("fusion_env/FusionDistillTiny-v0", config=config, observation="vector+time")
    assert timed.spec.max_episode_steps is None
    again = gymnasium.make(env.spec)
    again.reset(seed=0)
    ends = [again.step(np.zeros(ACTION_SIZE, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("make", [gymnasium.make, partial(gymnasium.make_vec, num_envs=2)])
def test_an_unknown_keyword_is_a_type_error(make: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"Did you mean 'rounds'.*unexpected keyword argument 'roundz'"):
        make("fusion_env/FusionDistillTiny-v0", roundz=3)
