from collections.abc import Iterator
from math import exp, log, log10

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.errors import DataError
from fusion_env.metrics import compute, fidelity, vif, vif_pair, viff
from tests.fusion_env.metrics.named import named


def scene(seed: int, batch: int, height: int, width: int) -> torch.Tensor:
    """Noise on a smooth background, so that every scale holds some signal."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (0.8 * smooth + 0.2 * torch.rand(batch, 1, height, width, generator=generator)).clamp(0, 1)


def scales_by_definition(source: torch.Tensor, fused: torch.Tensor) -> list[torch.Tensor]:
    """Local variance of S, g and variance of v on each scale, ``[3, h, w]``, as published, on levels ``[H, W]``."""
    scales = []
    for size in (17, 9, 5, 3):
        weights = torch.tensor([exp(-0.5 * ((i - size // 2) / (size / 5)) ** 2) for i in range(size)]).double()
        weights = torch.outer(weights, weights) / weights.sum() ** 2

        def filtered(image: torch.Tensor, size: int = size, weights: torch.Tensor = weights) -> torch.Tensor:
            return (image.unfold(0, size, 1).unfold(1, size, 1) * weights).sum(dim=(-2, -1))

        if size < 17:
            source, fused = filtered(source)[::2, ::2], filtered(fused)[::2, ::2]
        mean_s, mean_f = filtered(source), filtered(fused)
        var_s = (filtered(source * source) - mean_s**2).clamp(min=0)
        var_f = (filtered(fused * fused) - mean_f**2).clamp(min=0)
        cov = filtered(source * fused) - mean_s * mean_f
        g = cov / (var_s + 1e-10)
        v = var_f - g * cov
        flat_s = var_s < 1e-10
        g, v, var_s = g.masked_fill(flat_s, 0), torch.where(flat_s, var_f, v), var_s.masked_fill(flat_s, 0)
        g, v = g.masked_fill(var_f < 1e-10, 0), v.masked_fill(var_f < 1e-10, 0)
        v = torch.where(g < 0, var_f, v).clamp(min=1e-10)
        scales.append(torch.stack([var_s, g.clamp(min=0), v]))
    return scales


def vif_by_loops(source: torch.Tensor, fused: torch.Tensor) -> float:
    numerator = denominator = 0.0
    for scale in scales_by_definition(source, fused):
        for var_s, g, v in zip(*(plane.flatten().tolist() for plane in scale), strict=True):
            numerator += log(1 + g * g * var_s / (v + 2))
            denominator += log(1 + var_s / 2)
    return numerator / denominator


def viff_by_loops(vis: torch.Tensor, ir: torch.Tensor, fused: torch.Tensor) -> float:
    total = 0.0
    noise = 0.005 * 255 * 255
    pairs = zip((1, 0, 0.15, 1), scales_by_definition(vis, fused), scales_by_definition(ir, fused), strict=True)
    for weight, scale_a, scale_b in pairs:
        numerator = denominator = 0.0
        pixels = [zip(*(plane.flatten().tolist() for plane in scale), strict=True) for scale in (scale_a, scale_b)]
        for a, b in zip(*pixels, strict=True):
            var_s, g, v = a if a[1] < b[1] else b
            numerator += log10(1 + g * g * var_s / (v + noise)) + 1e-7
            denominator += log10(1 + var_s / noise) + 1e-7
        total += weight * numerator / denominator
    return total / 2.15


class TestVIFPair:
    def test_equal_images_give_one(self, device):
        images = scene(0, 3, 50, 64).to(device)
        assert vif_pair(images, images).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
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
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 2e-6)):
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
        torch.testing.assert_close(vif_pair(source, fused + shift), vif_pair(source, fused))


class TestVIF:
    def test_is_the_sum_over_the_sources(self, device):
        fused, ir, vis = (scene(seed, 3, 64, 49).to(device) for seed in (0, 1, 2))
        expected = vif_pair(vis, fused) + vif_pair(ir, fused)
        torch.testing.assert_close(vif(fused, ir=ir, vis=vis), expected, rtol=1e-5, atol=1e-6)

    def test_nan_stays_in_its_image(self):
        fused, ir, vis = (scene(seed, 3, 64, 49) for seed in (0, 1, 2))
        ir[1, 0, 30, 30] = float("nan")
        assert vif(fused, ir=ir, vis=vis).isnan().tolist() == [False, True, False]

    def test_faint_dots_in_a_flat_source_need_double_precision(self):
        # Variances near 1e-3 on a mean of 200: in float32 they drown, and with them what F shows of the dots.
        dots = torch.full((1, 1, 80, 80), 200, dtype=torch.uint8)
        dots[..., ::9, ::7] = 201
        fused, vis = ((scene(seed, 1, 80, 80) * 255).to(torch.uint8) for seed in (1, 2))
        expected = vif(**named(image.double() / 255 for image in (fused, dots, vis)))
        assert vif(fused, ir=dots, vis=vis).item() == pytest.approx(expected.item(), rel=1e-6)

    def test_large_images_are_worked_off_in_strips(self, monkeypatch):
        images = [scene(seed, 1, 90, 70) for seed in (0, 1, 2)]
        whole = vif(**named(images))
        monkeypatch.setattr("fusion_env.filters.STRIP_ELEMENTS", 1)
        torch.testing.assert_close(vif(**named(images)), whole)


class TestVIFF:
    @pytest.mark.parametrize(("height", "width"), [(41, 41), (44, 59)])
    def test_equals_the_definition(self, height, width, device):
        vis, ir = scene(5, 1, height, width), scene(6, 1, height, width)
        fused = 0.4 * vis + 0.4 * ir + 0.1 * scene(7, 1, height, width)
        ir[..., :20, :20] = 1.0
        fused[..., 20:, 20:] = 0.8
        fused, ir, vis = (image.mul(255).round() for image in (fused, ir, vis))
        expected = viff_by_loops(vis[0, 0].double(), ir[0, 0].double(), fused[0, 0].double())
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 2e-6)):
            images = [image.to(device, dtype) / 255 for image in (fused, ir, vis)]
            assert viff(**named(images)).item() == pytest.approx(expected, rel=tolerance)

    def test_equal_images_give_one(self, device):
        images = scene(0, 3, 50, 64).to(device)
        assert viff(images, ir=images, vis=images).tolist() == pytest.approx([1.0] * 3, rel=1e-6)

    def test_is_that_of_the_worse_kept_source(self):
        # F is the visible image with little contrast, so g is small there, and large for the faint infrared image.
        vis = scene(1, 1, 60, 60)
        faint = 0.5 + 0.1 * (vis - 0.5)
        fused = 0.5 + 0.3 * (vis - 0.5)
        assert viff(fused, ir=faint, vis=vis).item() == pytest.approx(viff(fused, ir=vis, vis=vis).item(), rel=1e-3)

    def test_order_matters_only_where_both_sources_are_flat_in_f(self):
        fused, ir, vis = (scene(seed, 1, 60, 60) for seed in (0, 1, 2))
        fused = 0.4 * ir + 0.4 * vis
        torch.testing.assert_close(viff(fused, ir=ir, vis=vis), viff(fused, ir=vis, vis=ir), rtol=0.05, atol=0)
        fused[..., 30:, :] = 0.5
        ir[..., 30:, :] = 0.2
        assert viff(fused, ir=ir, vis=vis) > 1.2 * viff(fused, ir=vis, vis=ir)

    def test_both_in_one_pass_with_the_same_values(self, monkeypatch):
        images = [scene(seed, 2, 64, 50) for seed in (0, 1, 2)]
        cut, passes = fidelity.strips, []

        def counted(*arguments: object, **options: object) -> Iterator:
            passes.append(arguments)
            return cut(*arguments, **options)

        monkeypatch.setattr(fidelity, "strips", counted)
        together = compute(["vif", "viff"], **named(images))
        needed = len(passes)
        assert torch.equal(together["vif"], vif(**named(images)))
        assert len(passes) == 2 * needed  # one metric alone takes as many
        assert torch.equal(together["viff"], viff(**named(images)))
