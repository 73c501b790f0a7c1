import math

import pytest
import torch

from fusion_env.updates import Moments, Schedule, to_unit_norm


def test_the_joint_norm_becomes_one() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    to_unit_norm(gradients)
    assert torch.allclose(gradients[0], torch.tensor([0.6, 0.0]))
    assert torch.allclose(gradients[1], torch.tensor([[0.8]]))


def test_zero_stays_zero() -> None:
    gradients = [torch.zeros(2), torch.zeros(1)]
    to_unit_norm(gradients)
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])  # the square of the last is too large for float32
def test_what_is_not_finite_is_not_hidden(value: float) -> None:
    gradients = [torch.tensor([value]), torch.tensor([value])]
    to_unit_norm(gradients)
    assert not any(gradient.isfinite() for gradient in gradients)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0]), ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0])],
)
def test_schedules(kind: str, expected: list[float]) -> None:
    schedule = Schedule(kind, rounds=8)
    assert [schedule.factor(rounds) for rounds in (0, 2, 4, 8)] == pytest.approx(expected)
    assert schedule.factor(9) == schedule.factor(8)  # past the budget


def trained(channels_last: bool = False) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Conv2d(2, 3, 3)
    torch.nn.init.constant_(network.weight, 0.5)
    torch.nn.init.constant_(network.bias, 0.5)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    for size in (1.0, 2.0):
        train(network, optimizer, size)
    return network, optimizer


def train(network: torch.nn.Module, optimizer: torch.optim.Optimizer, size: float) -> None:
    optimizer.zero_grad()
    (size * network(torch.ones(1, 2, 4, 4)).square().sum()).backward()
    optimizer.step()


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_optimiser_goes_on_with_given_moments(channels_last: bool) -> None:
    network, optimizer = trained(channels_last)
    other, _ = trained(channels_last)
    fresh = torch.optim.Adam(other.parameters())
    moments = Moments.of(optimizer, network)
    moments.give(fresh, other)
    train(network, optimizer, 3.0)
    train(other, fresh, 3.0)
    assert torch.equal(network.weight, other.weight)
    assert fresh.state[other.weight]["exp_avg"].stride() == other.weight.stride()
    again, _ = trained(channels_last)
    last = torch.optim.Adam(again.parameters())
    moments.give(last, again)  # nobody trains in the given tensors
    train(again, last, 3.0)
    assert torch.equal(network.weight, again.weight)


def test_moments_of_larger_gradients() -> None:
    network, optimizer = trained()
    moments = Moments.of(optimizer, network)
    scaled = moments.scaled(3.0)
    assert scaled.steps == moments.steps == 2
    assert torch.equal(scaled.first["weight"], 3 * moments.first["weight"])
    assert torch.equal(scaled.second["weight"], 9 * moments.second["weight"])
