"""Eq. 1-3 against hand-computed numbers, and what must not receive a gradient."""

import pytest
import torch

from fusion_env.action import LossWeights
from fusion_env.losses import LossScales, guidance_loss, self_learning_loss, total_loss


def test_guidance_adds_the_mean_squared_difference_of_every_tap() -> None:
    student = [torch.full((2, 3, 4, 4), 2.0), torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)]
    teacher = [torch.full((2, 3, 4, 4), 1.5), torch.tensor([4.0, 2.0]).view(1, 2, 1, 1)]
    assert guidance_loss(student, teacher).item() == pytest.approx(0.25 + 4.5)


def test_guidance_trains_the_student_only() -> None:
    student = torch.tensor([[1.0, 3.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 1.0]], requires_grad=True)
    guidance_loss([student], [teacher]).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[1.0, 2.0]]))
    assert teacher.grad is None


@pytest.mark.parametrize("teacher", [[], [torch.zeros(1, 1, 4, 4)] * 2, [torch.zeros(1, 1, 1, 1)]])
def test_guidance_refuses_features_that_do_not_match(teacher: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="same shapes at every tap"):
        guidance_loss([torch.zeros(1, 1, 4, 4)], teacher)


def test_guidance_without_taps_is_an_error() -> None:
    with pytest.raises(ValueError, match="same shapes"):
        guidance_loss([], [])


@pytest.mark.parametrize(("kind", "expected"), [("l1", (0.1 + 0.3) / 2), ("l2", (0.01 + 0.09) / 2)])
def test_self_learning_is_a_mean_over_pixels(kind: str, expected: float) -> None:
    original = torch.tensor([0.5, 0.5]).view(1, 1, 1, 2)
    degraded = torch.tensor([0.6, 0.2]).view(1, 1, 1, 2)
    assert self_learning_loss(original, degraded, kind=kind).item() == pytest.approx(expected)


def test_self_learning_is_l1_unless_told() -> None:
    original, degraded = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 0.8)
    assert self_learning_loss(original, degraded).item() == pytest.approx(0.3)


@pytest.mark.parametrize("detach", [False, True])
def test_self_learning_gradient_runs_through_both_branches_unless_detached(detach: bool) -> None:
    original = torch.tensor([[[[0.5]]]], requires_grad=True)
    degraded = torch.tensor([[[[0.8]]]], requires_grad=True)
    self_learning_loss(original, degraded, detach_original=detach).backward()
    assert degraded.grad.item() == 1
    assert (None if original.grad is None else original.grad.item()) == (None if detach else -1)


def test_self_learning_names_a_wrong_kind_and_wrong_shapes() -> None:
    image = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"'l1' or 'l2'\. Got 'l3'"):
        self_learning_loss(image, image, kind="l3")
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\) and \(2, 1, 4, 4\)"):
        self_learning_loss(image, image.repeat(2, 1, 1, 1))


def test_total_weights_and_scales() -> None:
    guidance, self_learning = torch.tensor(200.0), torch.tensor(0.03)
    weights = LossWeights(guidance=0.75, self_learning=0.25)
    assert total_loss(guidance, self_learning, weights).item() == pytest.approx(150.0075)
    scales = LossScales(guidance=100.0, self_learning=0.01)
    assert total_loss(guidance, self_learning, weights, scales).item() == pytest.approx(1.5 + 0.75)


def test_total_leaves_out_a_loss_of_weight_zero_even_if_it_is_undefined() -> None:
    broken = torch.tensor(float("nan"))
    assert total_loss(torch.tensor(2.0), broken, LossWeights(1.0, 0.0)).item() == 2.0
    assert total_loss(broken, torch.tensor(3.0), LossWeights(0.0, 1.0)).item() == 3.0
    assert total_loss(torch.tensor(2.0), None, LossWeights(1.0, 0.0)).item() == 2.0


def test_total_names_the_missing_loss() -> None:
    with pytest.raises(ValueError, match=r"self_learning has weight 0\.5"):
        total_loss(torch.tensor(1.0), None, LossWeights(0.5, 0.5))
    with pytest.raises(ValueError, match="positive weight"):
        total_loss(torch.tensor(1.0), torch.tensor(1.0), LossWeights(0.0, 0.0))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match=r"LossScales\.self_learning"):
        LossScales(self_learning=value)
