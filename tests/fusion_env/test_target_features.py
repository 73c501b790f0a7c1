"""Kept features are those that would be computed, and a limit on memory is obeyed."""

from collections.abc import Callable

import pytest
import torch

from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY
from fusion_env.perception.embedded_features import load_embedded_features
from fusion_env.target_features import TargetFeatures
from fusion_env.task import DistillationTask, build_task

MakeConfig = Callable[..., DistillConfig]


@pytest.fixture
def task(tiny_config: MakeConfig) -> DistillationTask:
    return build_task(tiny_config(stage0_rounds=0))


def features(task: DistillationTask, limit_mib: int, autocast: bool = False) -> TargetFeatures:
    return TargetFeatures(task.bank, task.features, autocast=autocast, limit_mib=limit_mib)


@pytest.mark.parametrize("autocast", [False, True])
def test_kept_features_are_those_that_would_be_computed(task: DistillationTask, autocast: bool) -> None:
    index = torch.tensor([3, 0, 15])
    kept, computed = (features(task, limit, autocast)(index) for limit in (100, 0))
    assert [tap.dtype for tap in kept] == [tap.dtype for tap in computed]
    for one, other in zip(kept, computed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2 if autocast else 1e-5, atol=1e-2 if autocast else 1e-6)


def test_kept_features_stay_in_their_order_of_memory(task: DistillationTask) -> None:
    network = load_embedded_features().to(memory_format=torch.channels_last)
    index = torch.tensor([3, 0])
    kept, computed = (TargetFeatures(task.bank, network, autocast=False, limit_mib=limit)(index) for limit in (100, 0))
    for one, other in zip(kept, computed, strict=True):
        assert one.stride() == other.stride()
        torch.testing.assert_close(one, other)


def test_they_are_computed_once(task: DistillationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = features(task, 100)
    first = kept(torch.tensor([1]))
    monkeypatch.setattr(kept, "_features", None)
    for one, other in zip(first, kept(torch.tensor([1])), strict=True):
        assert torch.equal(one, other)


def test_the_memory_is_what_is_said_and_no_more_than_allowed(task: DistillationTask) -> None:
    kept = features(task, 100)
    kept(torch.tensor([0]))
    assert kept._stored is not None
    assert sum(tap.nbytes for tap in kept._stored) == round(kept.mib * 2**20)
    limit = int(kept.mib)  # less than needed
    assert kept.kept
    assert not features(task, limit).kept
    assert "kept" in kept.describe()
    assert "computed for each mini-batch" in features(task, limit).describe()


def test_the_setting_is_said_and_changes_no_result(tiny_config: MakeConfig) -> None:
    results = []
    for limit, told in ((512, "kept"), (0, "computed for each mini-batch")):
        task = build_task(tiny_config(stage0_rounds=0, feature_cache_mib=limit))
        assert told in task.describe()["memory"]
        results.append(task.new_engine(1, 2).run_round(GUIDANCE_ONLY, Degradation()).guidance)
    assert results[0] == pytest.approx(results[1], rel=1e-5)
