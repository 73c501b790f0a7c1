"""What is kept in the cache is found again exactly when nothing that it depends on has changed."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from fusion_env import crop_bank, stage0
from fusion_env.config import DistillConfig, TeacherSettings
from fusion_env.crop_bank import CropPlan, bank_key, plan_crops
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
        if "conditions" in item.name:
            return ("fog",)
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


@pytest.mark.slow
def test_the_other_settings_do_not_change_stage_0(task: DistillationTask, settings: Stage0Settings) -> None:
    def student(settings: Stage0Settings) -> torch.Tensor:
        stage0, _ = train_stage0(settings, task.bank, task.features, task.stage0, iterations=1)
        return torch.cat([tensor.flatten() for tensor in stage0.to_tensors().values()])

    expected = student(settings)
    changed = {name: student(other) for name, other in others(settings).items()}
    same = {name for name in changed if torch.equal(changed[name], expected)}
    assert same >= stage0.NOT_IN_KEY - {"compiled"}  # which rounds otherwise
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


@pytest.mark.slow
def test_it_does_not_matter_who_filled_the_cache(tmp_path: Path) -> None:
    """A cache that one thread filled and two threads read gives what two threads give afresh, and the other way."""
    program = """
import sys
from fusion_env.env import FusionDistillEnv
env = FusionDistillEnv("tiny", threads=int(sys.argv[1]), cache_dir=sys.argv[2], stage0_rounds=4)
env.reset(seed=0)
print(env.task.fingerprints["student_init"], sum(float(t.double().sum()) for t in env.task.stage0.values()))
print(env.step(env.encode_action(guidance=0.7, blur_kernel=3))[1], env.abandon().report)
"""

    def run(threads: int, cache: str) -> str:
        command = [sys.executable, "-c", program, str(threads), str(tmp_path / cache)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout

    alone = {threads: run(threads, f"alone {threads}") for threads in (1, 2)}
    assert alone[1] != alone[2]
    for first, second in ((1, 2), (2, 1)):
        run(first, f"first {first}")
        assert run(second, f"first {first}") == alone[second]


def test_the_device_and_the_threads_are_in_every_key(task: DistillationTask, settings: Stage0Settings) -> None:
    plan = CropPlan(*(np.zeros(1, int) for _ in range(4)), 32)

    def keys(device: str) -> tuple[str, str]:
        bank = dataclasses.replace(task.bank, ir=torch.empty(1, device=device))
        return (
            stage0_key(settings, bank, task.features, task.stage0, 1),
            bank_key(task.source, plan, task.teacher, task.config.group(TeacherSettings), device=device),
        )

    seen = [*keys("cpu"), *keys("meta")]
    torch.set_num_threads(2)
    try:
        seen += keys("cpu")
    finally:
        torch.set_num_threads(1)
    assert len(set(seen)) == 6
