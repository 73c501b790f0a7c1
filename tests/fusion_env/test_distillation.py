from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusion_env.action import LossWeights, even_degradation
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY, BankOrder, Distillation, epoch_iterations
from fusion_env.errors import SnapshotError
from fusion_env.losses import LossScales, total_loss
from fusion_env.task import DistillationTask, build_task
from fusion_env.updates import to_unit_norm

MakeConfig = Callable[..., DistillConfig]

STRONG = Degradation(7, 40, 0.3, 0.3, 0.05)
HALF = LossWeights(0.5, 0.5)


@pytest.fixture
def task(tiny_config: MakeConfig) -> DistillationTask:
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
    to_unit_norm([p.grad for p in other.student.parameters()])
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
    engine.learning_rate = float("inf")
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


def test_a_snapshot_can_be_loaded_twice(task: DistillationTask) -> None:
    first = task.new_engine(1, 2)
    first.run_round(HALF, STRONG)
    state = first.state_dict()
    students = []
    for engine in (task.new_engine(3, 4), task.new_engine(5, 6)):
        engine.load_state_dict(state)
        engine.run_round(HALF, STRONG)
        students.append(weights_of(engine))
    assert torch.equal(*students)


def test_snapshot_of_another_version_is_refused(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    with pytest.raises(SnapshotError, match="version"):
        engine.load_state_dict({**engine.state_dict(), "version": 99})


@pytest.mark.parametrize(("kind", "last"), [("constant", 1.0), ("linear", 0.125), ("cosine", 0.03806)])
def test_the_step_size_is_known_from_the_round_and_the_budget(tiny_config: MakeConfig, kind: str, last: float) -> None:
    task = build_task(tiny_config(schedule=kind, rounds=4, iterations=2))
    engine = task.new_engine(1, 2)
    for _ in range(2):
        engine.run_round(HALF, STRONG)
    other = task.new_engine(1, 2)
    other.load_state_dict(engine.state_dict())
    for one in (engine, other):
        for _ in range(2):
            one.run_round(HALF, STRONG)
        assert one.optimizer.param_groups[0]["lr"] == pytest.approx(last * 0.002, rel=1e-3)
    assert torch.equal(weights_of(engine), weights_of(other))


HIGH, LOW = 0.9975, 0.0026


def last_update_norm(task: DistillationTask, guidance: NDArray[np.float64], degradation: Degradation) -> float:
    """Return the mean norm of the updates in the last sixth of a run with these guidance weights."""
    engine = task.new_engine(1, 2)
    norms = [engine.run_round(LossWeights(w, 1 - w), degradation).update_norm for w in guidance.tolist()]
    return float(np.mean(norms[-(len(norms) // 6) :]))


@pytest.mark.slow
def test_a_falling_weight_is_no_falling_step_size(tiny_config: MakeConfig) -> None:
    # Nothing is degraded: guidance is all there is, and its weight a mere factor on the gradient.
    curricula, ratios = (np.geomspace(HIGH, LOW, 18), np.full(18, HIGH)), {}
    for update in ("direction", "sum"):
        task = build_task(tiny_config(rounds=18, schedule="constant", update=update))
        falling, constant = (last_update_norm(task, guidance, Degradation()) for guidance in curricula)
        ratios[update] = falling / constant
    assert ratios["direction"] == pytest.approx(1, abs=0.1)
    assert ratios["sum"] < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("degradation", [Degradation(), STRONG])
def test_the_weights_do_not_decide_the_size_of_an_update(tiny_config: MakeConfig, degradation: Degradation) -> None:
    task = build_task(tiny_config(rounds=60, schedule="constant"))
    constant = last_update_norm(task, np.full(60, HIGH), degradation)
    for shape in (np.geomspace, np.linspace):
        for first, last in ((HIGH, LOW), (LOW, HIGH)):
            assert 1 / 3 < last_update_norm(task, shape(first, last, 60), degradation) / constant < 3


@pytest.mark.slow
def test_in_the_plain_sum_they_do(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(rounds=60, schedule="constant", update="sum", moments="fresh"))
    falling, rising = (
        last_update_norm(task, np.geomspace(*ends, 60), Degradation()) for ends in ((HIGH, LOW), (LOW, HIGH))
    )
    assert rising > 20 * falling


def test_the_norm_of_an_update_is_that_of_the_change_of_all_weights(task: DistillationTask) -> None:
    engine = task.new_engine(1, 2)
    before = weights_of(engine)
    result = engine.run_round(HALF, STRONG)
    assert result.update_norm == pytest.approx(float((weights_of(engine) - before).norm()), rel=1e-4)


def test_a_run_goes_on_with_the_moments_of_stage_0(tiny_config: MakeConfig) -> None:
    # As if nothing had happened between: the plain sum with the raw guidance loss is what stage 0 did.
    plain = {"update": "sum", "loss_scale": "none", "schedule": "constant", "stage0_schedule": "constant"}
    task, longer = (build_task(tiny_config(stage0_rounds=rounds, **plain)) for rounds in (4, 5))
    engine = task.new_engine(0, 0)
    engine.load_state_dict({**engine.state_dict(), "order": after_stage_0(task, 4)})
    engine.run_round(GUIDANCE_ONLY, Degradation())
    assert all(torch.equal(longer.stage0[name], tensor) for name, tensor in engine.student.state_dict().items())


def after_stage_0(task: DistillationTask, batches: int) -> dict[str, Any]:
    """Return where stage 0's order of the crops stands after some mini-batches."""
    order = BankOrder(len(task.bank), task.config.stage0_seed)
    order.take(batches * task.config.batch_size)
    return order.state_dict()


def test_moments_fit_what_the_loss_is_divided_by(tiny_config: MakeConfig) -> None:
    raw, scaled = (build_task(tiny_config(update="sum", loss_scale=kind)) for kind in ("none", "gradient"))
    moments = [task.new_engine(0, 0).moments() for task in (raw, scaled)]
    for name, tensor in moments[0].first.items():
        assert torch.allclose(tensor / scaled.scales.guidance, moments[1].first[name])
        assert torch.allclose(moments[0].second[name] / scaled.scales.guidance**2, moments[1].second[name])


def test_every_crop_is_visited_once_before_any_is_again() -> None:
    order = BankOrder(16, seed=1)
    seen = np.concatenate([order.take(3) for _ in range(16)])  # 48 of a bank of 16
    for start in (0, 16, 32):
        assert sorted(seen[start : start + 16].tolist()) == list(range(16))


def test_epoch_iterations() -> None:
    assert epoch_iterations(2940, 24) == 123
    assert epoch_iterations(1, 24) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"self_learning_loss": "l2"},
        {"detach_original": False},
        {"loss_scale": "stage0"},
        {"loss_scale": "none"},
        {"schedule": "linear"},
        {"schedule": "constant"},
        {"update": "sum"},
        {"moments": "fresh"},
        {"learning_rate": 0.001},
        {"batch_size": 3},
        {"iterations": 2},
        {"autocast": True},
        {"channels_last": False},
    ],
)
def test_every_training_setting_has_an_effect(tiny_config: MakeConfig, change: dict) -> None:
    # Stage 0 would differ as well: start both from the same random student.
    plain, changed = (build_task(tiny_config(stage0_rounds=0, **c)).new_engine(1, 2) for c in ({}, change))
    weights, degradation = LossWeights(0.6, 0.4), even_degradation(0.5)
    for engine in (plain, changed):
        for _ in range(3):
            engine.run_round(weights, degradation)
    assert not torch.equal(weights_of(plain), weights_of(changed))
