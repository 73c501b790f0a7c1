from collections.abc import Callable

import numpy as np
import pytest
import torch

from fusion_env.action import LossWeights, even_degradation
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY, BankOrder, Distillation, epoch_iterations
from fusion_env.errors import SnapshotError
from fusion_env.losses import LossScales, total_loss
from fusion_env.task import DistillationTask, build_task

STRONG = Degradation(7, 40, 0.3, 0.3, 0.05)
HALF = LossWeights(0.5, 0.5)


@pytest.fixture
def task(tiny_config: Callable[..., DistillConfig]) -> DistillationTask:
    return build_task(tiny_config())


def weights_of(engine: Distillation) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in engine.student.parameters()])


def test_a_round_changes_the_student_and_reports_finite_losses(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    before = weights_of(engine)
    result = engine.run_round(HALF, STRONG)
    assert not torch.equal(before, weights_of(engine))
    assert not result.diverged
    assert result.guidance > 0
    assert result.self_learning > 0
    assert 0 < result.guidance_share < 1


def test_same_seeds_same_weights_and_other_seeds_others(task: DistillationTask) -> None:
    def run(order: int, noise: int) -> torch.Tensor:
        engine = task.new_engine(order, noise)
        for _ in range(3):
            engine.run_round(HALF, STRONG)
        return weights_of(engine)

    reference = run(1, 2)
    assert torch.equal(reference, run(1, 2))
    assert not torch.equal(reference, run(3, 2))
    assert not torch.equal(reference, run(1, 3))


def test_total_is_equation_3(task: DistillationTask) -> None:
    scales = LossScales(2.0, 0.5)
    engine = task.new_engine(1, 2, scales=scales)
    result = engine.run_round(LossWeights(0.3, 0.7), STRONG)
    expected = 0.3 * result.guidance / 2.0 + 0.7 * result.self_learning / 0.5
    assert result.total == pytest.approx(expected, rel=1e-5)


def test_the_first_gradient_is_that_of_equation_3(task: DistillationTask) -> None:
    # The round's first mini-batch takes its gradient from two separate ones: the step must be the ordinary one.
    engine, other = task.new_engine(1, 2), task.new_engine(1, 2)
    weights = LossWeights(0.3, 0.7)
    engine.run_round(weights, STRONG)
    losses = other.losses(weights, STRONG, **other.next_batch()._asdict())
    total_loss(*losses, weights, task.scales).backward()
    # Gradients, not steps: Adam blows up the rounding noise of biases in front of a normalisation.
    gradients = [torch.cat([p.grad.flatten() for p in e.student.parameters()]) for e in (engine, other)]
    assert torch.allclose(*gradients, atol=1e-5 * float(gradients[1].abs().max()))


def test_guidance_only_ignores_the_degradation(task: DistillationTask) -> None:
    engine, other = task.new_engine(1, 2), task.new_engine(1, 2)
    result = engine.run_round(GUIDANCE_ONLY, STRONG)
    other.run_round(GUIDANCE_ONLY, Degradation())
    assert torch.equal(weights_of(engine), weights_of(other))
    assert result.self_learning == 0
    assert result.guidance_share == 1


def test_no_degradation_means_no_self_learning_loss(task: DistillationTask) -> None:
    result = task.new_engine(1, 2).run_round(HALF, Degradation())
    assert result.self_learning == 0


def test_strengths_do_not_shift_later_draws(task: DistillationTask) -> None:
    # Rounds with different strengths leave the random stream at the same place.
    states = []
    for degradation in (Degradation(), STRONG):
        engine = task.new_engine(1, 2)
        engine.run_round(HALF, degradation)
        states.append(engine.state_dict()["noise"])
    assert torch.equal(*states)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_divergence_is_reported(task: DistillationTask, value: float) -> None:
    engine = task.new_engine(1, 2)
    with torch.no_grad():
        next(engine.student.parameters()).fill_(value)
    assert engine.run_round(HALF, STRONG).diverged


def test_a_round_that_diverged_is_taken_back(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    engine.run_round(HALF, STRONG)
    before = weights_of(engine)
    engine.optimizer.param_groups[0]["lr"] = float("inf")
    assert engine.run_round(HALF, STRONG).diverged
    assert torch.equal(before, weights_of(engine))


def test_a_finite_round_can_be_taken_back_as_well(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    before = weights_of(engine)
    engine.run_round(HALF, STRONG)
    engine.roll_back()
    assert torch.equal(before, weights_of(engine))


def test_snapshot_continues_bit_for_bit(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    engine.run_round(HALF, STRONG)
    state = engine.state_dict()
    copies = {name: tensor.clone() for name, tensor in state["student"].items()}
    for _ in range(9):  # past the end of the bank's first pass
        engine.run_round(HALF, STRONG)
    assert all(torch.equal(copies[name], state["student"][name]) for name in copies)  # a copy, not a view
    other = task.new_engine(7, 8)
    other.load_state_dict(state)
    for _ in range(9):
        other.run_round(HALF, STRONG)
    assert torch.equal(weights_of(engine), weights_of(other))


def test_snapshot_of_another_version_is_refused(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    with pytest.raises(SnapshotError, match="version"):
        engine.load_state_dict({**engine.state_dict(), "version": 99})


def test_every_crop_is_visited_once_before_any_is_again() -> None:
    order = BankOrder(16, seed=1)
    seen = np.concatenate([order.take(3) for _ in range(16)])  # 48 of a bank of 16
    for start in (0, 16, 32):
        assert sorted(seen[start : start + 16].tolist()) == list(range(16))


def test_epoch_iterations() -> None:
    assert epoch_iterations(2940, 24) == 123
    assert epoch_iterations(1, 24) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"self_learning_loss": "l2"},
        {"detach_original": True},
        {"loss_scale": "none"},
        {"learning_rate": 0.001},
        {"batch_size": 3},
        {"iterations": 2},
        {"autocast": True},
        {"channels_last": False},
    ],
)
def test_every_training_setting_has_an_effect(tiny_config: Callable[..., DistillConfig], change: dict) -> None:
    # Stage 0 would differ as well: start both from the same random student.
    plain, changed = (build_task(tiny_config(stage0_rounds=0, **c)).new_engine(1, 2) for c in ({}, change))
    weights, degradation = LossWeights(0.6, 0.4), even_degradation(0.5)
    for engine in (plain, changed):
        for _ in range(3):
            engine.run_round(weights, degradation)
    assert not torch.equal(weights_of(plain), weights_of(changed))
