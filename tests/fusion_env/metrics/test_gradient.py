from math import sqrt

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusion_env.errors import DataError
from fusion_env.metrics import ag, ag_forward, ei, ei_zero, sf, sf_uint8


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

    @pytest.mark.parametrize(("metric", "mode"), [(ei, "nearest"), (ei_zero, "constant")])
    def test_equals_scipy(self, metric, mode, device):
        levels = noise(1, 1, 1, 13, 22)
        plane = levels[0, 0].double().numpy()
        expected = np.hypot(ndimage.sobel(plane, 0, mode=mode), ndimage.sobel(plane, 1, mode=mode)).mean()
        assert metric(levels.to(device)).item() == pytest.approx(expected, rel=1e-6)


class TestEIZero:
    def test_one_white_pixel_has_no_gradient(self):
        # Its neighbours, left and right, are all outside: 0 on both sides.
        assert ei_zero(torch.ones(1, 1, 1, 1)).item() == 0.0

    def test_white_image_has_an_edge_around_it(self):
        # A corner answers with (3, 3), a side with (4, 0), the middle with (0, 0).
        expected = 255 * (4 * sqrt(18) + 4 * 4) / 9
        assert ei_zero(torch.ones(1, 1, 3, 3)).item() == pytest.approx(expected, rel=1e-6)


class TestAGForward:
    def test_two_by_two_by_hand(self):
        # Only the upper left pixel has both neighbours: 30 to the right, 40 down.
        assert ag_forward(image([[0, 30], [40, 50]])).item() == pytest.approx(50 / sqrt(2), rel=1e-6)

    def test_equals_numpy(self, device):
        levels = noise(2, 1, 1, 11, 8)
        plane = levels[0, 0].double().numpy()
        across, down = np.diff(plane, axis=1)[:-1], np.diff(plane, axis=0)[:, :-1]
        assert ag_forward(levels.to(device)).item() == pytest.approx(np.hypot(across, down).mean() / sqrt(2), rel=1e-6)

    def test_refuses_a_single_column(self):
        with pytest.raises(DataError, match="ag_forward needs.*2x2"):
            ag_forward(torch.zeros(1, 1, 9, 1))


class TestSF:
    def test_two_by_two_by_hand(self):
        # Differences in rows 30, 10 and in columns 40, 20, each mean over two.
        assert sf(image([[0, 30], [40, 50]])).item() == pytest.approx(sqrt(1000 / 2 + 2000 / 2), rel=1e-6)

    def test_each_mean_has_its_own_count(self, device):
        levels = noise(3, 1, 1, 3, 40)
        plane = levels[0, 0].double().numpy()
        expected = sqrt((np.diff(plane, axis=0) ** 2).mean() + (np.diff(plane, axis=1) ** 2).mean())
        assert sf(levels.to(device)).item() == pytest.approx(expected, rel=1e-6)


class TestSFUint8:
    def test_by_hand_with_both_saturations(self):
        # In rows: 10 counts 100, -10 counts 0. In columns: 200 counts 255, 180 counts 255.
        assert sf_uint8(image([[0, 10], [200, 190]])).item() == pytest.approx(sqrt(100 / 2 + 255), rel=1e-6)

    def test_equals_saturating_arithmetic(self, device):
        levels = noise(4, 1, 1, 9, 14)
        plane = levels[0, 0].int().numpy()
        steps = [np.clip(np.diff(plane, axis=axis), 0, 255) for axis in (0, 1)]
        expected = sqrt(sum(np.clip(step**2, 0, 255).mean() for step in steps))
        assert sf_uint8(levels.to(device)).item() == pytest.approx(expected, rel=1e-6)

    def test_descending_ramp_counts_nothing(self):
        ramp = image([[9, 6, 3, 0]] * 4)
        assert sf_uint8(ramp).item() == 0.0
        assert sf_uint8(ramp.flip(-1)).item() == pytest.approx(3.0, rel=1e-6)

    def test_maximum(self):
        steep = 60 * torch.arange(5, dtype=torch.uint8)
        assert sf_uint8((steep[:, None] // 2 + steep // 2)[None, None]).item() == pytest.approx(sqrt(510), rel=1e-6)
