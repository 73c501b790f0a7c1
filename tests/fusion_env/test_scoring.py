from collections.abc import Callable

import numpy as np
import pytest
import torch

from fusion_env.config import INDICATORS, DistillConfig
from fusion_env.errors import UnknownNameError
from fusion_env.metrics import ag, vif
from fusion_env.scoring import Scorer, ends, lost_reward, reward
from fusion_env.task import build_task

MakeConfig = Callable[..., DistillConfig]


class Copy(torch.nn.Module):
    """A student that returns the visible image."""

    def forward(self, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        return vis


def test_values_are_the_metrics(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())
    own, teacher, spread = task.scorer.score(Copy())
    ir, vis, target = task.scored.batch(torch.arange(4))
    assert own["ag"] == pytest.approx(float(ag(vis).mean()), rel=1e-6)
    assert own["vif"] == pytest.approx(float(vif(vis, ir=ir, vis=vis).mean()), rel=1e-6)
    assert teacher["vif"] == pytest.approx(float(vif(target, ir=ir, vis=vis).mean()), rel=1e-6)
    assert own["iqa"] == pytest.approx(float(task.quality(vis).mean()), rel=1e-6)
    assert spread == pytest.approx(float(vis.std((1, 2, 3)).mean()), rel=1e-6)


def test_the_teacher_averages_one(tiny_config: MakeConfig) -> None:
    scorer = build_task(tiny_config()).scorer
    assert scorer.normalised(scorer.teacher_means) == dict.fromkeys(INDICATORS, 1.0)
    assert scorer.score_e(scorer.teacher_means) == 1.0


def test_a_subset_scores_student_and_teacher_on_the_same_crops(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(score_images=2))
    rng = np.random.default_rng(0)
    crops = task.scorer.draw(rng)
    own, teacher, _ = task.scorer.score(Copy(), crops)
    ir, vis, target = task.scored.batch(crops)
    assert len(crops) == 2
    assert own["vif"] == pytest.approx(float(vif(vis, ir=ir, vis=vis).mean()), rel=1e-5)
    assert teacher["vif"] == pytest.approx(float(vif(target, ir=ir, vis=vis).mean()), rel=1e-5)
    assert {tuple(task.scorer.draw(rng).tolist()) for _ in range(30)} == {
        (a, b) for a in range(4) for b in range(a + 1, 4)
    }


def test_pieces_give_the_same_values(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    task = build_task(tiny_config())
    whole = task.scorer.score(Copy())
    monkeypatch.setattr("fusion_env.scoring.CHUNK_PIXELS", 48 * 48)
    in_pieces = Scorer(task.config, task.scored, task.quality).score(Copy())
    for a, b in zip(whole[:2], in_pieces[:2], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_minmax(tiny_config: MakeConfig) -> None:
    bounds = (0, 10, 0, 100, 0, 2, 0, 80, 0, 1)
    scorer = build_task(tiny_config(normalisation="minmax", minmax_bounds=bounds)).scorer
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
