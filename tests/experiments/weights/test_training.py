import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from experiments.weights.images import draw_crop
from experiments.weights.measures import median_ms, spearman
from experiments.weights.training import fit, one_cycle, seeded, train_from_scratch

STEPS = 8


def batch(step: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(step))


def test_a_seed_gives_the_same_network_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (seeded(lambda: nn.Linear(3, 2), seed).weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_that_goes_on_is_the_whole_one() -> None:
    def part(state: dict | None, stop: int) -> tuple[nn.Linear, dict]:
        network = seeded(lambda: nn.Linear(3, 1), 0)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
        schedule = one_cycle(optimiser, STEPS, warm_up=0.25)
        parts, done = (network, optimiser, schedule), 0
        if state is not None:
            done = state["done"]
            for one, kept in zip(parts, state["parts"], strict=True):
                one.load_state_dict(kept)
        kept = {}

        def keep(done: int) -> None:
            if done == stop:
                kept.update(done=done, parts=[copy.deepcopy(one.state_dict()) for one in parts])

        fit(
            network,
            optimiser,
            schedule,
            lambda step: network(batch(step)).square().mean(),
            "x",
            start=done,
            after_step=keep,
        )
        return network, kept

    whole, kept = part(None, stop=3)
    resumed, _ = part(kept, stop=STEPS)
    assert torch.equal(whole.weight, resumed.weight)


def test_training_lowers_the_loss_and_ends_frozen() -> None:
    def loss(network: nn.Linear) -> Tensor:
        return (network(batch(0)) - 2).square().mean()

    network = train_from_scratch(lambda: nn.Linear(3, 1), loss, 0.1, 100, 0, "x")
    assert loss(network) < 0.5 * loss(seeded(lambda: nn.Linear(3, 1), 0))
    assert not network.training
    assert not network.weight.requires_grad


def test_rank_correlation_equals_that_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 40)
    second = first + rng.normal(size=40).round()
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman([1, 2, 3], [5.0, 5.0, 5.0]) == 0


def test_time_is_taken_on_one_thread() -> None:
    threads, seen = torch.get_num_threads(), []
    assert median_ms(lambda: seen.append(torch.get_num_threads()), repeats=2) >= 0
    assert seen == [1] * 5
    assert torch.get_num_threads() == threads


def test_crops_are_of_one_place() -> None:
    scenes = [np.arange(48.0).reshape(6, 8) + 100 * scene for scene in range(3)]
    crops = draw_crop({"ir": scenes, "vis": [-scene for scene in scenes]}, 4, np.random.default_rng(0))
    assert crops["ir"].shape == (4, 4)
    assert (crops["ir"] == -crops["vis"]).all()
