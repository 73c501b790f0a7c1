import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.metrics import sd


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

    def test_large_constant_is_exactly_zero(self):
        # The sum of 77 over a million pixels is no longer exact in float32.
        assert sd(torch.full((1, 1, 1000, 1000), 77, dtype=torch.uint8)).item() == 0.0

    def test_one_deviating_pixel_in_a_bright_image(self):
        levels = torch.full((1, 1, 500, 500), 250, dtype=torch.uint8)
        levels[..., 0, 0] = 251
        n = 500 * 500
        assert sd(levels).item() == pytest.approx(((n - 1) / n**2) ** 0.5, rel=1e-5)
