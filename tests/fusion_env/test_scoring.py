import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_env.config import INDICATORS, DistillConfig
from fusion_env.data import write_png
from fusion_env.errors import ConfigError, UnknownNameError
from fusion_env.metrics import ag, vif
from fusion_env.scoring import Scorer, ends, indicator_values, lost_reward, reward
from fusion_env.task import build_task
from student.weights import build_student

MakeConfig = Callable[..., DistillConfig]

WHOLE = {"score_size": None, "score_crops": None}


class Copy(torch.nn.Module):
    """A student that returns the visible image."""

    def forward(self, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        return vis


def test_values_are_the_metrics(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())
    own, teacher, spread = task.scorer.score(Copy())
    ir, vis, target = task.scored[0].batch(torch.arange(4))
    assert own["ag"] == pytest.approx(float(ag(vis).mean()), rel=1e-6)
    assert own["vif"] == pytest.approx(float(vif(vis, ir=ir, vis=vis).mean()), rel=1e-6)
    assert teacher["vif"] == pytest.approx(float(vif(target, ir=ir, vis=vis).mean()), rel=1e-6)
    assert own["iqa"] == pytest.approx(float(task.quality((vis * 255).round() / 255).mean()), rel=1e-6)
    assert spread == pytest.approx(float(vis.std((1, 2, 3)).mean()), rel=1e-6)


def test_the_teacher_averages_one(tiny_config: MakeConfig) -> None:
    scorer = build_task(tiny_config()).scorer
    assert scorer.normalised(scorer.teacher_means) == dict.fromkeys((*INDICATORS, "ssim"), 1.0)
    assert scorer.score_e(scorer.teacher_means) == 1.0


def test_a_subset_scores_student_and_teacher_on_the_same_crops(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(score_images=2))
    rng = np.random.default_rng(0)
    crops = task.scorer.draw(rng)
    own, teacher, _ = task.scorer.score(Copy(), crops)
    ir, vis, target = task.scored[0].batch(torch.from_numpy(crops))
    assert len(crops) == 2
    assert own["vif"] == pytest.approx(float(vif(vis, ir=ir, vis=vis).mean()), rel=1e-5)
    assert teacher["vif"] == pytest.approx(float(vif(target, ir=ir, vis=vis).mean()), rel=1e-5)
    assert {tuple(task.scorer.draw(rng).tolist()) for _ in range(30)} == {
        (a, b) for a in range(4) for b in range(a + 1, 4)
    }


@pytest.mark.parametrize("changes", [{}, {"iqa_colour": True}, {"score_metrics": ("vif", "qabf", "ssim")}])
def test_reward_and_report_are_one_number(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    task = build_task(tiny_config(**WHOLE, scenes=20, **changes))
    assert len(task.splits.reward) == 2
    report = dataclasses.replace(task.report, indices=task.splits.reward)
    student = build_student(task.stage0, "stage 0")
    # One image at a time, as in the report: in a batch the last digits differ, and so may a pixel's level.
    monkeypatch.setattr("fusion_env.scoring.CHUNK_PIXELS", 1)
    own, teacher, _ = task.scorer.score(student)
    again, of_teacher = report.score(student), report.teacher()
    near = {"rel": 1e-5, "abs": 1e-6}
    assert task.scorer.score_e(own) == pytest.approx(again["e"], **near)
    assert own == pytest.approx({name: again[name] for name in own}, **near)
    assert teacher == pytest.approx({name: of_teacher[name] for name in teacher}, **near)


def test_quality_is_of_whole_levels_as_the_metrics_are(tiny_config: MakeConfig) -> None:
    quality, vis = build_task(tiny_config()).quality, torch.rand(1, 1, 64, 64)
    fused = (vis * 255).round() / 255
    off = fused + 0.3 / 255
    assert not torch.equal(quality(off), quality(fused))
    values = [indicator_values(("iqa", "ag"), x, ir=vis, vis=vis, quality=quality) for x in (fused, off)]
    assert values[0] == values[1]


def test_images_of_several_sizes(tmp_path: Path, tiny_config: MakeConfig) -> None:
    """Equal sizes are scored together, the others alone; the draw and the teacher's numbers keep their images."""
    sizes = {"a": (48, 64), "b": (64, 48), "c": (48, 64), "d": (50, 50)}
    names = [f"{name}{number}" for name in sizes for number in range(3)]
    for number, name in enumerate(names):
        levels = np.random.default_rng(number).integers(0, 256, (2, *sizes[name[0]]), np.uint8)
        for side, picture in zip(("ir", "vi"), levels, strict=True):
            write_png(tmp_path / side / f"{name}.png", picture)
    for part, number in (("train", 0), ("reward", 1), ("val", 2)):
        (tmp_path / f"{part}.txt").write_text("\n".join(f"{name}{number}" for name in sizes))
    task = build_task(tiny_config(**WHOLE, data=str(tmp_path), score_images=2, batch_size=1))
    assert [len(images) for images in task.scored] == [2, 1, 1]
    report = dataclasses.replace(task.report, indices=task.splits.reward)
    assert task.scorer.score(Copy())[0]["vif"] == pytest.approx(report.score(Copy())["vif"], rel=1e-5)
    # Those of one size stand together: a1, c1, b1, d1.
    own, teacher, _ = task.scorer.score(Copy(), np.array([1, 3]))
    two = dataclasses.replace(report, indices=task.splits.reward[2:])
    assert own["vif"] == pytest.approx(two.score(Copy())["vif"], rel=1e-5)
    assert teacher["vif"] == pytest.approx(two.teacher()["vif"], rel=1e-5)


@pytest.mark.slow
def test_so_many_whole_images(tiny_config: MakeConfig) -> None:
    config = tiny_config(**WHOLE, scenes=40)
    chosen = [build_task(config.replace(score_limit=limit)).scored[0].ir for limit in (None, 9, 2)]
    assert [len(images) for images in chosen] == [4, 4, 2]
    assert all((chosen[0] == image).flatten(1).all(1).any() for image in chosen[2])
    with pytest.raises(ConfigError, match="score_images=5 is more than the 4 images of the reward split"):
        build_task(config.replace(score_images=5))


def test_pieces_give_the_same_values(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    task = build_task(tiny_config())
    whole = task.scorer.score(Copy())
    monkeypatch.setattr("fusion_env.scoring.CHUNK_PIXELS", 48 * 48)
    in_pieces = Scorer(task.config, task.scored, task.quality).score(Copy())
    for a, b in zip(whole[:2], in_pieces[:2], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_minmax(tiny_config: MakeConfig) -> None:
    bounds = (0, 10, 0, 100, 0, 2, 0, 80, 0, 1)
    config = tiny_config(normalisation="minmax", minmax_bounds=bounds, score_metrics=("vif", "iqa"))
    scorer = build_task(config).scorer
    values = {"ag": 5.0, "ei": 25.0, "vif": 1.0, "sd": 80.0, "iqa": 0.0}
    assert scorer.normalised(values) == {"ag": 0.5, "ei": 0.25, "vif": 0.5, "sd": 1.0, "iqa": 0.0}
    assert scorer.score_e(values) == 0.25


def test_misspelt_metric(tiny_config: MakeConfig) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'vif'"):
        build_task(tiny_config(score_metrics=("vift",)))


def test_reward_is_the_gap_or_its_change_and_bounded_below() -> None:
    assert reward(-0.25, before=-0.5, kind="gap", lowest=-1.0) == -0.25
    assert reward(-0.25, before=-0.5, kind="gap_delta", lowest=-1.0) == 0.25
    assert reward(-3.0, before=-0.5, kind="gap", lowest=-1.0) == -1.0
    assert reward(-3.0, before=-0.5, kind="gap_delta", lowest=-2.0) == -2.0
    assert lost_reward(5, each=-1.0) == -5.0


@pytest.mark.parametrize(
    ("rounds", "parity", "sees_time", "expected"),
    [
        (9, 0, False, (False, False)),
        (10, 0, False, (False, True)),
        (10, 0, True, (True, False)),
        (9, 2, True, (False, False)),
        (9, 3, False, (True, False)),
        (10, 3, False, (True, False)),
        (10, 3, True, (True, False)),
    ],
)
def test_ends(rounds: int, parity: int, sees_time: bool, expected: tuple[bool, bool]) -> None:
    assert ends(rounds, budget=10, parity=parity, sees_time=sees_time) == expected
