from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.errors import DataError
from fusion_env.metrics import vif, vif_pair


def scene(seed: int, batch: int, height: int, width: int) -> torch.Tensor:
    """Noise on a smooth background, so that every scale holds some signal."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (0.8 * smooth + 0.2 * torch.rand(batch, 1, height, width, generator=generator)).clamp(0, 1)


def vif_by_loops(source: torch.Tensor, fused: torch.Tensor) -> float:
    """The published definition, pixel by pixel, on levels ``[H, W]``."""
    numerator = denominator = 0.0
    for size in (17, 9, 5, 3):
        weights = torch.tensor([exp(-0.5 * ((i - size // 2) / (size / 5)) ** 2) for i in range(size)]).double()
        weights = torch.outer(weights, weights) / weights.sum() ** 2

        def filtered(image: torch.Tensor, size: int = size, weights: torch.Tensor = weights) -> torch.Tensor:
            return (image.unfold(0, size, 1).unfold(1, size, 1) * weights).sum(dim=(-2, -1))

        if size < 17:
            source, fused = filtered(source)[::2, ::2], filtered(fused)[::2, ::2]
        mean_s, mean_f = filtered(source), filtered(fused)
        variances_s = (filtered(source * source) - mean_s**2).clamp(min=0).flatten().tolist()
        variances_f = (filtered(fused * fused) - mean_f**2).clamp(min=0).flatten().tolist()
        covariances = (filtered(source * fused) - mean_s * mean_f).flatten().tolist()
        for var_s, var_f, cov in zip(variances_s, variances_f, covariances, strict=True):
            g = cov / (var_s + 1e-10)
            v = var_f - g * cov
            if var_s < 1e-10:
                g, v, var_s = 0.0, var_f, 0.0
            if var_f < 1e-10:
                g, v = 0.0, 0.0
            if g < 0:
                g, v = 0.0, var_f
            numerator += log(1 + g * g * var_s / (max(v, 1e-10) + 2))
            denominator += log(1 + var_s / 2)
    return numerator / denominator


class TestVIFPair:
    def test_equal_images_give_one(self, device):
        images = scene(0, 3, 50, 64).to(device)
        assert vif_pair(images, images).tolist() == pytest.approx([1.0] * 3, abs=1e-4)
        assert vif_pair(images.double(), images.double()).tolist() == pytest.approx([1.0] * 3, abs=1e-9)

    def test_constant_fused_keeps_nothing(self, device):
        images = scene(1, 2, 45, 45).to(device)
        assert vif_pair(images, torch.full_like(images, 0.5)).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)

    def test_negative_keeps_nothing(self):
        images = scene(2, 2, 45, 45)
        assert vif_pair(images, 1 - images).max() < 1e-6

    def test_constant_source_has_nothing_to_lose(self):
        images = scene(3, 2, 45, 45)
        assert vif_pair(torch.full_like(images, 0.3), images).tolist() == [1.0, 1.0]

    def test_contrast_gain_exceeds_one_and_order_matters(self):
        weak = 0.25 + 0.5 * scene(4, 1, 60, 60)
        strong = (2 * weak - 0.5).clamp(0, 1)
        assert vif_pair(weak, strong).item() > 1.05
        assert vif_pair(strong, weak).item() < 0.95

    @pytest.mark.parametrize(("height", "width"), [(41, 41), (44, 59)])
    def test_equals_the_definition(self, height, width, device):
        source, fused = scene(5, 1, height, width), scene(6, 1, height, width)
        fused = 0.6 * source + 0.4 * fused
        # Two flat patches, one in either image and one in both: the branches of the definition.
        source[..., :20, :20] = fused[..., :20, :20] = 1.0
        fused[..., 20:, 20:] = 0.0
        source, fused = source.mul(255).round(), fused.mul(255).round()
        expected = vif_by_loops(source[0, 0].double(), fused[0, 0].double())
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 5e-4)):
            images = (source.to(device, dtype) / 255, fused.to(device, dtype) / 255)
            assert vif_pair(*images).item() == pytest.approx(expected, rel=tolerance)

    def test_smallest_size(self):
        assert vif_pair(scene(7, 1, 41, 41), scene(8, 1, 41, 41)).isfinite().all()
        with pytest.raises(DataError, match=r"41x41.*40x41"):
            vif_pair(scene(7, 1, 40, 41), scene(8, 1, 40, 41))

    @settings(deadline=None, max_examples=10)
    @given(seed=st.integers(0, 2**31), shift=st.integers(1, 80))
    def test_unchanged_by_a_shift_of_brightness(self, seed, shift):
        source = (scene(seed, 1, 48, 48) * 170).to(torch.uint8)
        fused = (scene(seed + 1, 1, 48, 48) * 170).to(torch.uint8)
        torch.testing.assert_close(vif_pair(source, fused + shift), vif_pair(source, fused), rtol=1e-4, atol=1e-4)


class TestVIF:
    def test_is_the_sum_over_the_sources(self, device):
        fused, ir, vis = (scene(seed, 3, 64, 49).to(device) for seed in (0, 1, 2))
        expected = vif_pair(vis, fused) + vif_pair(ir, fused)
        torch.testing.assert_close(vif(fused, ir, vis), expected, rtol=1e-5, atol=1e-6)

    def test_nan_stays_in_its_image(self):
        fused, ir, vis = (scene(seed, 3, 64, 49) for seed in (0, 1, 2))
        ir[1, 0, 30, 30] = float("nan")
        assert vif(fused, ir, vis).isnan().tolist() == [False, True, False]
