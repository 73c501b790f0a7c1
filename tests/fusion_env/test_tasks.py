"""Named tasks: what they set, what wins, and that every one of them is a sound environment."""

import copy
import pickle
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from fusion_env import tasks
from fusion_env.action import ACTION_SIZE
from fusion_env.config import PRESETS, DistillConfig, preset
from fusion_env.data import make_splits
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, MissingRequirementsError, UnknownNameError, UnknownSettingError
from fusion_env.registry import Registry
from fusion_env.task import open_pairs
from fusion_env.tasks import Task
from fusion_env.vector_env import make_sb3_vec_env

NO_DOWNLOAD = ("camera", "few", "plenty", "shift")


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("size", PRESETS.names())
def test_every_task_has_every_size(name: str, size: str) -> None:
    config = tasks.config(name, size)
    assert {setting: getattr(config, setting) for setting in tasks.get(name).settings} == tasks.get(name).settings
    assert config.crop_size == preset(size).crop_size
    assert tasks.described(config, name, size) == f"preset {size}, task {name}"


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_reason(name: str) -> None:
    task = tasks.get(name)
    assert task.name == name
    assert task.summary.endswith(".")
    assert task.why.endswith(".")


def test_changes_win_over_the_task_and_the_task_over_the_preset() -> None:
    assert preset("bench").scenes != tasks.get("few").settings["scenes"] == tasks.config("few").scenes
    config = tasks.config("few", "bench", train_limit=6)
    assert config.train_limit == 6
    assert tasks.described(config, "few", "bench") == "preset bench, task few (but train_limit=6 in place of 8)"


def test_no_task_is_the_preset_alone() -> None:
    assert tasks.config(None, "demo", rounds=3) == preset("demo", rounds=3)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'fwe'. Did you mean 'few'"):
        tasks.config("fwe")
    with pytest.raises(UnknownSettingError, match="Did you mean 'train_limit'"):
        Task("mine", "", "", {"trainlimit": 3})


def test_a_task_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS", Registry("task", fits=lambda member: isinstance(member, Task)))
    task = tasks.register(Task("dusk", "Train by day.", "Why not.", {"conditions": ["day"]}))
    assert tasks.names() == ("dusk",)
    assert tasks.config("dusk", "tiny").conditions == task.settings["conditions"] == ("day",)
    with pytest.raises(TypeError):
        task.settings["conditions"] = ()  # type: ignore[index]
    with pytest.raises(ConfigError, match="rounds must be at least 1"):
        Task("none", "", "", {"rounds": 0})


def test_a_whole_config_and_a_task_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="leave out task='few'"):
        FusionDistillEnv(config=DistillConfig(), task="few")


@pytest.mark.parametrize(
    ("name", "wanted"), [("roadscene", "RoadScene .*set data=DIR"), ("sage", "github.com/RollingPlain/SAGE_IVIF")]
)
def test_what_a_task_needs_is_said_before_any_work(name: str, wanted: str) -> None:
    with pytest.raises(MissingRequirementsError, match=wanted):
        FusionDistillEnv("tiny", task=name)


@pytest.mark.parametrize("name", tasks.names())
def test_the_guide_has_every_task_in_its_words(name: str) -> None:
    task = tasks.get(name)
    guide = Path(__file__).resolve().parents[2] / "docs" / "guide" / "tasks.md"
    assert f"| `{name}` | {task.summary} | {task.why} |" in guide.read_text(encoding="utf-8")


def test_a_task_is_the_same_in_every_environment(tiny_cache: Path) -> None:
    settings = {"task": "few", "threads": 1, "cache_dir": str(tiny_cache)}
    single = gymnasium.make("fusion_env/FusionDistillTiny-v0", **settings).unwrapped
    native = gymnasium.make_vec("fusion_env/FusionDistillTiny-v0", num_envs=2, **settings)
    adapter = make_sb3_vec_env(2, "tiny", **settings)
    config = tasks.config("few", "tiny", threads=1, cache_dir=str(tiny_cache))
    assert single.config == config == native.envs[1].unwrapped.config == adapter.envs[1].unwrapped.config
    splits, whole = single.task.splits, make_splits(single.task.source, config.data_seed)
    assert (len(splits.train), len(splits.reward), len(splits.report)) == (8, 8, 8)
    assert set(splits.train) < set(whole.train)
    assert "8 training (train_limit), 8 reward, 8 report" in single.task.describe()["data"]


@pytest.mark.parametrize("name", NO_DOWNLOAD)
def test_scenes_of_training_reward_and_report_never_meet(name: str) -> None:
    source = open_pairs(tasks.config(name, data_seed=5))
    splits = make_splits(source, 5)
    assert min(len(splits.reward), len(splits.report)) >= 8
    parts = [set(splits.train), set(splits.reward), set(splits.report)]
    assert len(set.union(*parts)) == sum(map(len, parts))
    seeds = [
        int(np.random.SeedSequence([scenes.seed, index]).generate_state(1)[0])
        for scenes in source.parts
        for index in range(len(scenes))
    ]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("name", NO_DOWNLOAD)
def test_every_task_passes_both_checkers_with_finite_numbers(name: str, tiny_cache: Path) -> None:
    settings = {
        "task": name,
        "threads": 1,
        "cache_dir": str(tiny_cache),
        "render_mode": "rgb_array",
        "rounds": 2,
        "scenes": 30,
    }
    env = gymnasium.make("fusion_env/FusionDistillTiny-v0", **settings).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        sb3_check_env(env)
    observation, _ = env.reset(seed=0)
    for last in (False, True):
        observation, reward, terminated, truncated, info = env.step(np.zeros(ACTION_SIZE, np.float32))
        assert np.isfinite([*observation, reward]).all()
        assert (terminated or truncated) == last
    assert np.isfinite(np.asarray(info["report"])).all()
    assert np.isfinite(list(env.last_run.last_report.values())).all()


def test_tasks_can_be_copied_sent_and_counted() -> None:
    for name in tasks.names():
        task = tasks.get(name)
        assert pickle.loads(pickle.dumps(task)) == copy.deepcopy(task) == task
    assert len({tasks.get(name) for name in tasks.names()}) == len(tasks.names())
