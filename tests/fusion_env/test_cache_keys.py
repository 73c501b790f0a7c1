"""What is kept in the cache is found again exactly when nothing that it depends on has changed."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from fusion_env import crop_bank, stage0
from fusion_env.config import DistillConfig, TeacherSettings
from fusion_env.crop_bank import bank_key, plan_crops
from fusion_env.data import ProceduralScenes
from fusion_env.perception import load_features
from fusion_env.settings import Settings, setting
from fusion_env.stage0 import Stage0Settings, initial_student, stage0_key, train_stage0
from fusion_env.task import DistillationTask, build_task
from fusion_env.teachers import load

MakeConfig = Callable[..., DistillConfig]
S = TypeVar("S", bound=Settings)


def others(settings: S) -> dict[str, S]:
    """Return copies of settings that differ in one field each, by its name."""

    def other(item: dataclasses.Field) -> Any:
        value = getattr(settings, item.name)
        if item.metadata["choices"]:
            return next(choice for choice in item.metadata["choices"] if choice != value)
        if isinstance(value, bool):
            return not value
        if isinstance(value, (int, float)):
            return value + 1
        return "another" if "str" in str(item.type) else item.metadata["low"] or 1

    return {
        item.name: dataclasses.replace(settings, **{item.name: other(item)}) for item in dataclasses.fields(settings)
    }


def with_later_field(settings: S) -> list[S]:
    """Return settings as they would be if somebody had added a field and thought of no cache, with two values of it."""
    later = [("later", int, setting(0, "Something new."))]
    kind = dataclasses.make_dataclass("Later", later, bases=(type(settings),), frozen=True)
    return [kind(**vars(settings), later=value) for value in (0, 1)]


@pytest.fixture
def task(tiny_config: MakeConfig) -> DistillationTask:
    return build_task(tiny_config(stage0_rounds=0))


@pytest.fixture
def settings(tiny_config: MakeConfig) -> Stage0Settings:
    return tiny_config(stage0_rounds=1).group(Stage0Settings)


def test_stage_0_has_every_setting_in_its_key(task: DistillationTask, settings: Stage0Settings) -> None:
    def key(settings: Stage0Settings) -> str:
        return stage0_key(settings, task.bank, task.features, task.stage0, 1)

    keys = {name: key(other) for name, other in others(settings).items()}
    assert {name for name in keys if keys[name] == key(settings)} == stage0.NOT_IN_KEY
    changed = [other for other in keys.values() if other != key(settings)]
    assert len(set(changed)) == len(changed)
    assert len({key(later) for later in (settings, *with_later_field(settings))}) == 3


def test_the_other_settings_do_not_change_stage_0(task: DistillationTask, settings: Stage0Settings) -> None:
    def student(settings: Stage0Settings) -> torch.Tensor:
        state, _ = train_stage0(settings, task.bank, task.features, task.stage0, iterations=1)
        return torch.cat([tensor.flatten() for tensor in state.values()])

    expected = student(settings)
    changed = {name: student(other) for name, other in others(settings).items()}
    same = {name for name in changed if torch.equal(changed[name], expected)}
    assert same >= stage0.NOT_IN_KEY
    assert same.isdisjoint({"batch_size", "learning_rate", "stage0_rounds", "stage0_seed", "autocast"})


def test_what_stage_0_is_given_is_in_its_key(task: DistillationTask, settings: Stage0Settings) -> None:
    bank, features, start = task.bank, task.features, task.stage0
    keys = {
        stage0_key(settings, bank, features, start, 1),
        stage0_key(settings, dataclasses.replace(bank, key="another"), features, start, 1),
        stage0_key(settings, bank, load_features("vgg19-untrained"), start, 1),
        stage0_key(settings, bank, features, initial_student("random", task.teacher, 1), 1),
        stage0_key(settings, bank, features, start, 2),
    }
    assert len(keys) == 5


def test_a_bank_has_every_setting_of_the_teacher_in_its_key() -> None:
    source, teacher = ProceduralScenes(4, 64, 80, 3), load("laplacian")
    plan = plan_crops(source, range(4), count=4, size=32, flip=True, rng=np.random.default_rng(0))

    def key(settings: TeacherSettings) -> str:
        return bank_key(source, plan, teacher, settings)

    settings = TeacherSettings()
    keys = {name: key(other) for name, other in others(settings).items()}
    assert {name for name in keys if keys[name] == key(settings)} == crop_bank.NOT_IN_KEY
    assert len({key(later) for later in (settings, *with_later_field(settings))}) == 3
