from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fusion_env import teachers
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY
from fusion_env.errors import ConfigError
from fusion_env.stage0 import Stage0, Stage0Settings, initial_student, train_stage0
from fusion_env.task import build_task
from student import FusionStudent
from student.pruning import prune_ldfusion
from student.weights import WeightsError, save_state


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_random_depends_on_the_seed_alone() -> None:
    teacher = teachers.load("laplacian")
    torch.manual_seed(3)
    first = initial_student("random", teacher, 0)
    assert same(first, initial_student("random", teacher, 0))
    assert not same(first, initial_student("random", teacher, 1))


def test_prune_takes_the_teachers_channels() -> None:
    teacher = teachers.load("embedded")
    assert same(initial_student("prune", teacher, 0), prune_ldfusion(teacher.state_dict()).state_dict())


def test_prune_of_another_architecture_names_the_other_choices() -> None:
    with pytest.raises(ConfigError, match="'laplacian' is not one: use student_init='embedded', 'random'"):
        initial_student("prune", teachers.load("laplacian"), 0)


def test_a_file(tmp_path: Path) -> None:
    student = FusionStudent()
    save_state(student.state_dict(), tmp_path / "s.safetensors")
    path = str(tmp_path / "s.safetensors")
    assert same(initial_student(path, teachers.load("laplacian"), 0), student.state_dict())
    with pytest.raises(WeightsError, match=r"nosuch\.pt"):
        initial_student("nosuch.pt", teachers.load("laplacian"), 0)


def test_embedded_loads() -> None:
    assert set(initial_student("embedded", teachers.load("laplacian"), 0)) == set(FusionStudent().state_dict())


def test_training_lowers_the_guidance_loss(tiny_config: Callable[..., DistillConfig]) -> None:
    config = tiny_config(stage0_rounds=0)
    task = build_task(config)
    settings = config.replace(stage0_rounds=60).group(Stage0Settings)
    stage0, losses = train_stage0(settings, task.bank, task.features, task.stage0, iterations=1)
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert not same(stage0.student, task.stage0)
    assert stage0.moments.steps == 60


def test_without_training_the_moments_are_those_of_some_mini_batches(
    tiny_config: Callable[..., DistillConfig], tmp_path: Path
) -> None:
    config = tiny_config(stage0_rounds=0, cache_dir=str(tmp_path))
    task = build_task(config)
    assert same(task.stage0, initial_student("random", task.teacher, 0))
    assert task.moments.steps == 8
    assert all(float(tensor.max()) > 0 for tensor in task.moments.second.values())
    assert len(list((tmp_path / "stage0").glob("*.safetensors"))) == 1


def test_stage_0_goes_through_a_file(tiny_config: Callable[..., DistillConfig]) -> None:
    task = build_task(tiny_config())
    stage0 = Stage0(task.stage0, task.moments)
    again = Stage0.from_tensors(stage0.to_tensors())
    assert same(again.student, task.stage0)
    assert again.moments.steps == task.moments.steps == 20
    assert same(again.moments.first, task.moments.first)
    assert same(again.moments.second, task.moments.second)


def test_runs_leave_the_moments_of_the_task_alone(tiny_config: Callable[..., DistillConfig]) -> None:
    task = build_task(tiny_config())
    before = {name: tensor.clone() for name, tensor in task.moments.first.items()}
    task.new_engine(1, 2).run_round(GUIDANCE_ONLY, Degradation())
    assert same(before, task.moments.first)


def test_stage0_is_read_from_the_cache(tiny_config: Callable[..., DistillConfig], tmp_path: Path) -> None:
    first = build_task(tiny_config(cache_dir=str(tmp_path))).stage0
    files = list((tmp_path / "stage0").iterdir())
    assert len(files) == 1
    # Another configuration with the same stage 0 shares it.
    changes = {"rounds": 3, "logit_scale": 1.0, "self_learning": False, "score_crops": 3, "reward": "gap_delta"}
    second = build_task(tiny_config(cache_dir=str(tmp_path), **changes)).stage0
    assert same(first, second)
    assert list((tmp_path / "stage0").iterdir()) == files
    build_task(tiny_config(cache_dir=str(tmp_path), stage0_seed=1))
    assert len(list((tmp_path / "stage0").iterdir())) == 2


def test_divergence_in_stage_0_is_an_error(tiny_config: Callable[..., DistillConfig]) -> None:
    config = tiny_config(stage0_rounds=0)
    task = build_task(config)
    broken = {name: tensor * float("nan") for name, tensor in task.stage0.items()}
    settings = config.replace(stage0_rounds=2).group(Stage0Settings)
    with pytest.raises(ConfigError, match="stage 0 diverged in round 1"):
        train_stage0(settings, task.bank, task.features, broken, iterations=1)


def test_a_stage_0_that_does_not_move_is_an_error_and_not_stored(
    tiny_config: Callable[..., DistillConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"every weight as it was in 2 rounds at learning_rate=0.0: raise it"):
        build_task(tiny_config(stage0_rounds=2, learning_rate=0.0, cache_dir=str(tmp_path)))
    assert not list((tmp_path / "stage0").glob("*.safetensors"))
