"""Named tasks: what they set, what wins, and that every one of them is a sound environment."""

import pytest

from fusion_env import tasks
from fusion_env.config import PRESETS, DistillConfig, preset
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, MissingRequirementsError, UnknownNameError, UnknownSettingError
from fusion_env.registry import Registry
from fusion_env.tasks import Task


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
