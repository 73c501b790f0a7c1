from math import inf, log10

import numpy as np
import pytest
import torch

from fusion_env.metrics import cc, psnr, scd
from tests.fusion_env.metrics.named import named


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def planes(*images: torch.Tensor) -> list[np.ndarray]:
    return [image.double().flatten().numpy() for image in images]


@pytest.fixture
def related() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fused, infrared, visible; F holds something of both."""
    ir, vis = noise(0, 1, 1, 21, 34), noise(1, 1, 1, 21, 34)
    return (ir // 3 + vis // 2), ir, vis


class TestCC:
    def test_equals_numpy(self, related, device):
        f, b, a = planes(*related)
        expected = (np.corrcoef(a, f)[0, 1] + np.corrcoef(b, f)[0, 1]) / 2
        assert cc(**named(image.to(device) for image in related)).item() == pytest.approx(expected, rel=1e-6)
        doubles = [image.double() / 255 for image in related]
        assert cc(**named(doubles)).item() == pytest.approx(expected, rel=1e-12)

    def test_copy_and_negative(self):
        image = noise(2, 1, 1, 8, 8)
        assert cc(image, ir=image, vis=image).item() == pytest.approx(1.0)
        assert cc(image, ir=255 - image, vis=image).item() == pytest.approx(0.0, abs=1e-7)

    def test_constant_counts_as_uncorrelated(self):
        image, flat = noise(3, 1, 1, 8, 8), torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
        assert cc(flat, ir=image, vis=image).item() == 0.0
        assert cc(image, ir=flat, vis=image).item() == pytest.approx(0.5)

    def test_one_deviating_pixel_of_a_million(self):
        # Exact sums: in float32 the variance of such an image is rounding noise.
        fused = torch.full((1, 1, 1000, 1000), 201, dtype=torch.uint8)
        fused[..., 5, 5] = 202
        assert cc(fused, ir=fused, vis=fused).item() == pytest.approx(1.0, rel=1e-6)


class TestSCD:
    def test_equals_numpy(self, related, device):
        f, b, a = planes(*related)
        expected = np.corrcoef(f - b, a)[0, 1] + np.corrcoef(f - a, b)[0, 1]
        assert scd(**named(image.to(device) for image in related)).item() == pytest.approx(expected, rel=1e-6)

    def test_sum_of_the_sources_is_the_maximum(self):
        ir, vis = noise(4, 1, 1, 8, 8) // 2, noise(5, 1, 1, 8, 8) // 2
        assert scd(ir + vis, ir=ir, vis=vis).item() == pytest.approx(2.0)

    def test_copy_of_one_source_keeps_the_other_term(self):
        ir, vis = noise(6, 1, 1, 8, 8), noise(7, 1, 1, 8, 8)
        a, b = planes(vis, ir)
        assert scd(vis, ir=ir, vis=vis).item() == pytest.approx(np.corrcoef(a - b, a)[0, 1], rel=1e-6)
        assert scd(vis, ir=vis, vis=vis).item() == 0.0


class TestPSNR:
    def test_equals_numpy(self, related, device):
        f, b, a = planes(*related)
        expected = 10 * log10(255**2 / ((((a - f) ** 2).mean() + ((b - f) ** 2).mean()) / 2))
        assert psnr(**named(image.to(device) for image in related)).item() == pytest.approx(expected, rel=1e-6)

    def test_averages_the_errors_not_the_decibels(self):
        vis = noise(8, 1, 1, 8, 8)
        ir = vis ^ 1  # every pixel off by 1
        assert psnr(vis, ir=ir, vis=vis).item() == pytest.approx(10 * log10(255**2 / 0.5), rel=1e-6)

    def test_ends_of_the_range(self):
        white = torch.ones(2, 1, 3, 3)
        assert psnr(white, ir=white, vis=white).tolist() == [inf, inf]
        assert psnr(white, ir=0 * white, vis=0 * white).tolist() == [0.0, 0.0]
