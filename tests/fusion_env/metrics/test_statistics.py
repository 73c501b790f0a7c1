from math import log2

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.metrics import en, sd
from fusion_env.metrics.statistics import _scattered_counts, histograms


def noise(seed: int, *shape: int, high: int = 256) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class TestSD:
    def test_constant_is_zero(self, device):
        assert sd(torch.full((2, 1, 3, 4), 77, dtype=torch.uint8, device=device)).tolist() == [0.0, 0.0]

    def test_divides_by_the_number_of_pixels(self):
        # Mean 4, squared deviations 9, 1, 1, 9.
        assert sd(torch.tensor([[[[1, 3], [5, 7]]]], dtype=torch.uint8)).item() == pytest.approx(5**0.5, rel=1e-6)

    def test_black_and_white_is_the_maximum(self):
        assert sd(torch.tensor([[[[0.0, 1.0]]]])).item() == 127.5

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**31), shift=st.integers(0, 155))
    def test_unchanged_by_a_shift(self, seed, shift):
        levels = noise(seed, 2, 1, 8, 9, high=100)
        torch.testing.assert_close(sd(levels + shift), sd(levels), rtol=1e-5, atol=1e-5)


class TestEN:
    def test_constant_is_zero(self, device):
        assert en(torch.full((2, 1, 3, 4), 77, dtype=torch.uint8, device=device)).tolist() == [0.0, 0.0]

    def test_every_level_once_is_eight_bits(self, device):
        levels = torch.arange(256, dtype=torch.uint8, device=device).view(1, 1, 16, 16)
        assert en(levels).item() == pytest.approx(8.0, rel=1e-6)

    def test_quarters_by_hand(self):
        levels = torch.tensor([[[[9, 9, 9, 200]]], [[[1, 2, 2, 1]]]], dtype=torch.uint8)
        expected = [-0.75 * log2(0.75) - 0.25 * log2(0.25), 1.0]
        assert en(levels).tolist() == pytest.approx(expected, rel=1e-6)

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**31))
    def test_unchanged_by_a_permutation(self, seed):
        levels = noise(seed, 2, 1, 8, 9)
        order = torch.randperm(72, generator=torch.Generator().manual_seed(seed))
        permuted = levels.flatten(1)[:, order].view_as(levels)
        assert torch.equal(en(permuted), en(levels))

    def test_nan_stays_in_its_image(self):
        images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        images[1, 0, 3, 3] = float("nan")
        assert en(images).isnan().tolist() == [False, True, False]


class TestHistograms:
    def test_counts_each_row(self, device):
        index = torch.tensor([[0, 2, 2, 1], [3, 3, 3, 3]], dtype=torch.int32, device=device)
        assert histograms(index, bins=4).tolist() == [[1, 1, 2, 0], [0, 0, 0, 4]]

    def test_both_ways_of_counting_agree(self):
        flat = noise(3, 5000).int()
        assert torch.equal(_scattered_counts(flat, 256), torch.bincount(flat, minlength=256))
