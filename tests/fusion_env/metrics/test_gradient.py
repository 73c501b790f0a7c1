from math import sqrt

import numpy as np
import pytest
import torch

from fusion_env.errors import DataError
from fusion_env.metrics import ag, ei


def image(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)[None, None]


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class TestAG:
    def test_constant_is_zero(self, device):
        assert ag(torch.full((2, 1, 7, 9), 0.4, device=device)).tolist() == [0.0, 0.0]

    def test_two_by_two_by_hand(self):
        # One-sided everywhere: g_x = 30, 10 in the rows, g_y = 40, 20 in the columns.
        expected = sum(sqrt((x * x + y * y) / 2) for x, y in ((30, 40), (30, 20), (10, 40), (10, 20))) / 4
        assert ag(image([[0, 30], [40, 50]])).item() == pytest.approx(expected, rel=1e-6)

    def test_ramp_has_its_slope(self):
        ramp = image([[0, 3, 6, 9, 12]] * 4)
        assert ag(ramp).item() == pytest.approx(3 / sqrt(2), rel=1e-6)
        assert ag(ramp.mT).item() == pytest.approx(3 / sqrt(2), rel=1e-6)

    @pytest.mark.parametrize("size", [(2, 9), (3, 2), (17, 31)])
    def test_equals_numpy_gradient(self, size, device):
        levels = noise(0, 1, 1, *size)
        down, across = np.gradient(levels[0, 0].double().numpy())
        expected = np.sqrt((across**2 + down**2) / 2).mean()
        assert ag(levels.to(device)).item() == pytest.approx(expected, rel=1e-6)

    def test_refuses_a_single_row(self):
        with pytest.raises(DataError, match="2x2"):
            ag(torch.zeros(1, 1, 1, 9))


class TestEI:
    def test_constant_is_zero(self, device):
        assert ei(torch.full((2, 1, 7, 9), 0.4, device=device)).tolist() == [0.0, 0.0]

    def test_step_by_hand(self):
        # Columns 0 0 100 100: the two columns beside the step answer with (1 + 2 + 1) * 100, the others with 0.
        assert ei(image([[0, 0, 100, 100]] * 3)).item() == pytest.approx(200.0, rel=1e-6)

    def test_ramp_is_halved_at_the_replicated_border(self):
        # Inside 4 * (2 * 3) = 24, first and last column 4 * 3 = 12.
        assert ei(image([[0, 3, 6, 9, 12]] * 4)).item() == pytest.approx((3 * 24 + 2 * 12) / 5, rel=1e-6)

    def test_single_dot_by_hand(self):
        # Around a dot of 1 the Sobel vectors are (1, 1) at the 4 corners and (2, 0) at the 4 sides.
        dot = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
        dot[..., 2, 2] = 1
        assert ei(dot).item() == pytest.approx((4 * sqrt(2) + 4 * 2) / 25, rel=1e-6)

    def test_one_pixel(self):
        assert ei(torch.ones(1, 1, 1, 1)).item() == 0.0
