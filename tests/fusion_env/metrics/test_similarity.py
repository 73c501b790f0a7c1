import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fusion_env.errors import DataError
from fusion_env.metrics import ms_ssim, ssim, ssim_index, ssim_pair
from tests.fusion_env.metrics.named import named


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestSSIMPair:
    def test_equal_images_give_one(self, device):
        images = noise(0, 3, 1, 20, 31).to(device)
        assert ssim_pair(images, images).tolist() == pytest.approx([1.0] * 3, abs=1e-6)

    def test_two_constants_by_hand(self):
        # No variance: the second factor is 1, the first (2 * 100 * 150 + C1) / (100^2 + 150^2 + C1), C1 = 2.55^2.
        a = torch.full((1, 1, 12, 12), 100, dtype=torch.uint8)
        expected = (2 * 100 * 150 + 2.55**2) / (100**2 + 150**2 + 2.55**2)
        assert ssim_pair(a, a + 50).item() == pytest.approx(expected, rel=1e-6)

    def test_one_window_by_hand(self, device):
        a, b = (noise(seed, 1, 1, 11, 11, dtype=torch.float64) for seed in (1, 2))
        a, b = a.mul(255).round(), b.mul(255).round()
        axis = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
        weights = torch.outer(axis, axis) / axis.sum() ** 2
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        cov = (weights * (a - mean_a) * (b - mean_b)).sum()
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        expected = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            value = ssim_pair((a / 255).to(device, dtype), (b / 255).to(device, dtype))
            assert value.item() == pytest.approx(expected.item(), rel=tolerance)

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**31))
    def test_symmetric_and_at_most_one(self, seed):
        a, b = noise(seed, 2, 1, 16, 13), noise(seed + 1, 2, 1, 16, 13)
        torch.testing.assert_close(ssim_pair(a, b), ssim_pair(b, a), rtol=1e-5, atol=1e-6)
        assert ssim_pair(a, b).abs().max() <= 1

    def test_refuses_small_images(self):
        with pytest.raises(DataError, match=r"11x11.*10x30"):
            ssim_pair(noise(0, 1, 1, 10, 30), noise(1, 1, 1, 10, 30))


class TestSSIM:
    def test_is_the_sum_over_the_sources(self, device):
        fused, ir, vis = (noise(seed, 3, 1, 24, 19).to(device) for seed in (0, 1, 2))
        torch.testing.assert_close(ssim(fused, ir=ir, vis=vis), ssim_pair(vis, fused) + ssim_pair(ir, fused))


def ms_ssim_by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    product = 1.0
    for power in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):

        def local(image: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

        mean_a, mean_b = local(a), local(b)
        cov = local(a * b) - mean_a * mean_b
        structure = (2 * cov + 7.65**2) / (local(a * a) - mean_a**2 + local(b * b) - mean_b**2 + 7.65**2)
        if power == 0.1333:
            structure = structure * (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
        product *= max(structure.mean(), 0.0) ** power
        a, b = (x[: len(x) // 2 * 2, : x.shape[1] // 2 * 2] for x in (a, b))
        a, b = ((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4 for x in (a, b))
    return product


class TestMSSSIM:
    def test_equals_scipy(self, device):
        coarse = torch.nn.functional.interpolate(noise(1, 3, 1, 12, 12), (181, 190), mode="bilinear")
        fused, ir, vis = (0.7 * coarse + 0.3 * noise(2, 3, 1, 181, 190)).mul(255).round().unsqueeze(1).double()
        expected = sum(ms_ssim_by_scipy(fused[0, 0].numpy(), image[0, 0].numpy()) for image in (ir, vis))
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
            images = [(image / 255).to(device, dtype) for image in (fused, ir, vis)]
            assert ms_ssim(**named(images)).item() == pytest.approx(expected, rel=tolerance)

    def test_equal_images_give_two(self, device):
        images = noise(3, 2, 1, 176, 176).to(device)
        assert ms_ssim(images, ir=images, vis=images).tolist() == pytest.approx([2.0] * 2, abs=1e-5)

    def test_negative_structure_counts_as_nothing(self):
        fused = noise(4, 1, 1, 176, 176)
        assert ms_ssim(fused, ir=1 - fused, vis=1 - fused).item() == 0.0

    def test_refuses_small_images(self):
        with pytest.raises(DataError, match=r"176x176.*175x300"):
            ms_ssim(**named(noise(5, 3, 1, 1, 175, 300).unbind()))


class TestSSIMIndex:
    def test_equals_the_metric_on_whole_levels(self):
        a, b = (noise(seed, 2, 1, 20, 20, dtype=torch.float64).mul(255).round() / 255 for seed in (0, 1))
        torch.testing.assert_close(ssim_index(a, b), ssim_pair(a, b))

    def test_does_not_depend_on_the_unit(self):
        a, b = (noise(seed, 2, 1, 20, 20, dtype=torch.float64) for seed in (0, 1))
        torch.testing.assert_close(ssim_index(7 * a, 7 * b, data_range=7.0), ssim_index(a, b))

    def test_gradient(self):
        a, b = (noise(seed, 1, 1, 12, 11, dtype=torch.float64).requires_grad_() for seed in (0, 1))
        assert torch.autograd.gradcheck(ssim_index, (a, b), fast_mode=True)

    def test_trains_towards_the_target(self, device):
        target = noise(2, 1, 1, 24, 24).to(device)
        image = torch.full_like(target, 0.5).requires_grad_()
        optimiser = torch.optim.Adam([image], lr=0.1)
        for _ in range(25):
            optimiser.zero_grad()
            (1 - ssim_index(image, target)).mean().backward()
            optimiser.step()
        assert ssim_index(image.detach(), target).item() > 0.9
