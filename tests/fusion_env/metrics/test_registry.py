import pickle
from math import inf, log10

import pytest
import torch

from fusion_env import metrics
from fusion_env.errors import DataError, UnknownNameError
from fusion_env.metrics import Metric
from tests.fusion_env.metrics.named import named

# CLIP-IQA needs weights; test_quality.py has it.
NAMES = tuple(name for name in metrics.names() if name != "clip_iqa")
ONE_IMAGE = ("ag", "ag_forward", "ei", "ei_zero", "sf", "sf_uint8", "sd", "en")
EXPECTED = {*ONE_IMAGE, "mi", "qabf", "scd", "cc", "ssim", "ms_ssim", "psnr", "vif", "viff", "clip_iqa"}


def images(batch: int, name: str = "", seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Fused, infrared, visible: noise, large enough for the named metric."""
    size = max(48, metrics.get(name).minimum_size if name else 0)
    shape = (3, batch, 1, size, size + 3)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8).unbind()


def scene(name: str, seed: int = 0) -> torch.Tensor:
    """A picture with structure on every scale, levels 0..127, so that its contrast can be doubled exactly."""
    size = max(64, metrics.get(name).minimum_size)
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.nn.functional.interpolate(torch.rand(1, 1, 7, 7, generator=generator), size, mode="bilinear")
    return ((0.8 * coarse + 0.2 * torch.rand(1, 1, size, size, generator=generator)) * 127).to(torch.uint8)


class TestLookup:
    def test_all_are_there(self):
        assert set(metrics.names()) == EXPECTED

    @pytest.mark.parametrize("name", metrics.names())
    def test_entries_describe_themselves(self, name):
        metric = metrics.get(name)
        assert metric.name == name
        assert metric.needs_sources == (name not in ONE_IMAGE and name != "clip_iqa")
        assert metric.higher_is_better
        assert metric.summary
        assert metric.range

    def test_misspelt_name_gets_a_suggestion(self):
        with pytest.raises(UnknownNameError, match=r"unknown metric 'ssmi'\. Did you mean 'ssim'"):
            metrics.get("ssmi")

    def test_a_name_is_taken_once(self):
        with pytest.raises(ValueError, match="metric 'sd' is already registered, as a Metric; choose another name"):
            metrics.register(Metric("sd", lambda given: given.fused.mean(dim=(1, 2, 3)), False, 1, True, "", ""))

    @pytest.mark.parametrize("name", ["iqa", "mean"])
    def test_names_with_another_meaning_are_refused(self, name):
        with pytest.raises(ValueError, match=f"no metric can be called '{name}', which means"):
            metrics.register(Metric(name, lambda given: given.fused.mean(dim=(1, 2, 3)), False, 1, True, "", ""))

    def test_only_metrics_are_registered(self):
        for wrong in ("foo", lambda given: given.fused):
            with pytest.raises(TypeError, match=r"metrics.register takes a Metric; @metric\(...\) makes one"):
                metrics.register(wrong)
        with pytest.raises(ValueError, match="the name of a metric must be of letters, .* Got '<lambda>'"):
            metrics.metric(needs_sources=False, minimum_size=1, summary="", range="")(lambda given: given.fused)

    @pytest.mark.parametrize("name", metrics.names())
    def test_one_object_under_its_name_with_its_manual(self, name):
        metric = metrics.get(name)
        assert getattr(metrics, name) is metric
        assert metric.__doc__ != Metric.__doc__
        assert pickle.loads(pickle.dumps(metric)) == metric


class TestCompute:
    def test_keeps_names_and_order(self):
        values = metrics.compute(["vif", "ag"], **named(images(2)))
        assert list(values) == ["vif", "ag"]

    def test_nothing_selected(self):
        assert metrics.compute([], images(1)[0]) == {}

    def test_all_together_are_bit_for_bit_the_single_functions(self):
        fused, ir, vis = images(2, "ms_ssim")
        together = metrics.compute(NAMES, fused, ir=ir, vis=vis)
        for name in NAMES:
            function = getattr(metrics, name)
            alone = function(fused, ir=ir, vis=vis) if metrics.get(name).needs_sources else function(fused)
            assert torch.equal(together[name], alone), name

    def test_takes_metrics_as_well_as_names(self):
        brightest = Metric("brightest", lambda given: given.fused.amax(dim=(1, 2, 3)), False, 1, True, "", "")
        fused = images(2)[0]
        values = metrics.compute(["sd", brightest], fused)
        assert values["brightest"].tolist() == fused.flatten(1).amax(dim=1).tolist()
        assert torch.equal(brightest(fused), values["brightest"])

    def test_two_metrics_of_one_name(self):
        other = Metric("sd", lambda given: given.fused.mean(dim=(1, 2, 3)), False, 1, True, "", "")
        with pytest.raises(ValueError, match="two different metrics are called 'sd'"):
            metrics.compute(["sd", other], images(1)[0])
        assert list(metrics.compute(["sd", metrics.get("sd")], images(1)[0])) == ["sd"]

    def test_sources_may_be_left_out_where_not_needed(self):
        assert metrics.compute(["sd", "en"], images(1)[0]).keys() == {"sd", "en"}

    def test_sources_are_ignored_where_not_needed(self):
        fused = images(1)[0]
        assert torch.equal(metrics.get("sd")(fused, ir=torch.zeros(3), vis=None), metrics.sd(fused))

    def test_says_which_source_is_missing(self):
        fused, ir, _ = images(1)
        with pytest.raises(ValueError, match=r"vif, ssim need the source images\. Got no vis"):
            metrics.compute(["ag", "vif", "ssim"], fused, ir=ir)

    def test_names_the_metric_that_needs_larger_images(self):
        with pytest.raises(DataError, match=r"ms_ssim needs at least one image of at least 176x176"):
            metrics.compute(["vif", "ms_ssim", "sd"], **named(images(1)))

    def test_unknown_convention(self):
        with pytest.raises(UnknownNameError, match="unknown convention 'grey'"):
            metrics.compute(["sd"], images(1)[0], convention="grey")


@pytest.mark.parametrize("name", NAMES)
class TestEveryMetric:
    """What holds for each entry of the registry."""

    def test_types_agree(self, name, device):
        levels = [image.to(device) for image in images(3, name)]
        expected = metrics.compute([name], **named(levels))[name]
        assert expected.shape == (3,)
        assert expected.dtype == torch.float32
        single = metrics.compute([name], **named(image.float() / 255 for image in levels))[name]
        torch.testing.assert_close(single, expected, rtol=0, atol=0)
        double = metrics.compute([name], **named(image.double() / 255 for image in levels))[name]
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), expected, rtol=1e-5, atol=1e-6)

    def test_batch_equals_singles(self, name, device, monkeypatch):
        # Three images at a time, so that the batch is worked off in two chunks.
        batch = [image.to(device) for image in images(5, name)]
        for limit in ("CHUNK_PIXELS_CPU", "CHUNK_PIXELS_GPU"):
            monkeypatch.setattr(f"fusion_env.metrics.base.{limit}", 3 * batch[0][0].numel())
        together = metrics.compute([name], **named(batch))[name]
        apart = [metrics.compute([name], **named(image[i : i + 1] for image in batch))[name] for i in range(5)]
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-6, atol=1e-6)

    def test_records_no_gradient_and_changes_no_argument(self, name):
        originals = [image.float() / 255 for image in images(2, name)]
        batch = [image.clone().requires_grad_() for image in originals]
        assert not metrics.compute([name], **named(batch))[name].requires_grad
        assert all(torch.equal(image, original) for image, original in zip(batch, originals, strict=True))

    def test_view_into_a_larger_tensor(self, name):
        batch = [image.float() / 255 for image in images(2, name)]
        views = [torch.nn.functional.pad(image, (2, 5, 3, 1), value=0.7)[..., 3:-1, 2:-5] for image in batch]
        flipped = [image.mT.contiguous().mT for image in batch]
        expected = metrics.compute([name], **named(batch))[name]
        for other in (views, flipped):
            torch.testing.assert_close(metrics.compute([name], **named(other))[name], expected, rtol=1e-6, atol=1e-6)

    def test_nan_gives_nan(self, name):
        for position in range(3 if metrics.get(name).needs_sources else 1):
            batch = [image.float() / 255 for image in images(3, name)]
            batch[position][1, 0, -1, 0] = float("nan")
            assert metrics.compute([name], **named(batch))[name].isnan().tolist() == [False, True, False]

    def test_minimum_size_is_exact(self, name):
        smallest = metrics.get(name).minimum_size
        exact = [image[..., :smallest, :smallest] for image in images(1, name)]
        assert not metrics.compute([name], **named(exact))[name].isnan().any()
        if smallest > 1:
            with pytest.raises(DataError, match=f"{name} needs.*{smallest}x{smallest}"):
                metrics.compute([name], **named(image[..., :-1] for image in exact))

    def test_refuses_colour(self, name):
        colour = torch.zeros(1, 3, 48, 48)
        with pytest.raises(ValueError, match="must be luma"):
            metrics.compute([name], colour, ir=colour, vis=colour)

    def test_order_of_the_sources(self, name):
        ir, vis = scene(name, 1), scene(name, 2)
        fused = (ir + vis) // 2
        swapped = metrics.compute([name], fused, ir=vis, vis=ir)[name]
        # VIFF picks infrared where both gains are 0.
        tolerance = 1e-2 if name == "viff" else 1e-6
        torch.testing.assert_close(
            swapped, metrics.compute([name], fused, ir=ir, vis=vis)[name], rtol=tolerance, atol=tolerance
        )

    def test_constant_images(self, name):
        flat = torch.full_like(scene(name), 100)
        expected = {"ei_zero": None, "qabf": None, "psnr": inf, "ssim": 2.0, "ms_ssim": 2.0, "vif": 2.0, "viff": 1.0}
        value = metrics.compute([name], flat, ir=flat, vis=flat)[name].item()
        if expected.get(name, 0.0) is None:
            # A zero border draws an edge around the image: nothing but that edge.
            assert 0 < value < 45
        else:
            assert value == pytest.approx(expected.get(name, 0.0), abs=1e-5)

    def test_identity(self, name):
        image = scene(name)
        expected = {"scd": 0.0, "cc": 1.0, "ssim": 2.0, "ms_ssim": 2.0, "psnr": inf, "vif": 2.0, "viff": 1.0}
        expected |= {"mi": 2 * metrics.en(image).item(), "qabf": 0.975}
        if metrics.get(name).needs_sources:
            value = metrics.compute([name], image, ir=image, vis=image)[name].item()
            assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-6)
        else:
            assert metrics.get(name)(image).item() == getattr(metrics, name)(image).item() > 0

    def test_twice_the_contrast(self, name):
        ir, vis = scene(name, 1), scene(name, 2)
        batch = [(ir + vis) // 2, ir, vis]
        before = metrics.compute([name], **named(batch))[name].item()
        after = metrics.compute([name], **named(2 * image for image in batch))[name].item()
        if name in ("ag", "ag_forward", "ei", "ei_zero", "sf", "sd"):
            assert after == pytest.approx(2 * before, rel=1e-5)
        elif name in ("en", "mi", "scd", "cc", "qabf"):
            assert after == pytest.approx(before, rel=1e-3 if name == "qabf" else 1e-5)
        elif name == "psnr":
            assert after == pytest.approx(before - 20 * log10(2), rel=1e-5)
        elif name == "sf_uint8":
            # Steps of 16 and more, of which this noise has many, already count in full.
            assert before < after < 1.8 * before
        elif name in ("ssim", "ms_ssim"):
            # The constants, which make images alike, weigh less.
            assert 0 < after < before
        else:
            # What is left of the sources, in units of what they had: only more contrast in F than in them adds to it.
            copied, raised = (metrics.compute([name], image, ir=ir, vis=ir)[name].item() for image in (ir, 2 * ir))
            assert 1.05 * copied < raised < 4 * copied
