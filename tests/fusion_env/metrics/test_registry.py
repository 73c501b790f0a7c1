import pytest
import torch

from fusion_env import metrics
from fusion_env.errors import DataError, UnknownNameError


def images(batch: int, size: int = 48, seed: int = 0) -> tuple[torch.Tensor, ...]:
    shape = (3, batch, 1, size, size)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8).unbind()


class TestLookup:
    def test_state_metrics_are_there(self):
        assert {"ag", "ei", "sd", "en", "vif", "ssim"} <= set(metrics.names())

    def test_get_returns_the_named_metric(self):
        metric = metrics.get("vif")
        assert (metric.name, metric.function, metric.needs_sources) == ("vif", metrics.vif, True)

    def test_misspelt_name_gets_a_suggestion(self):
        with pytest.raises(UnknownNameError, match=r"unknown metric 'ssmi'\. Did you mean 'ssim'"):
            metrics.get("ssmi")


class TestCompute:
    def test_keeps_names_and_order(self):
        fused, ir, vis = images(2)
        values = metrics.compute(["vif", "ag"], fused, ir, vis)
        assert list(values) == ["vif", "ag"]
        assert torch.equal(values["vif"], metrics.vif(fused, ir, vis))
        assert torch.equal(values["ag"], metrics.ag(fused))

    def test_sources_may_be_left_out_where_not_needed(self):
        assert metrics.compute(["sd", "en"], images(1)[0]).keys() == {"sd", "en"}

    def test_says_which_source_is_missing(self):
        fused, ir, _ = images(1)
        with pytest.raises(ValueError, match=r"vif, ssim need the source images\. Got no vis"):
            metrics.compute(["ag", "vif", "ssim"], fused, ir)


@pytest.mark.parametrize("name", metrics.names())
class TestEveryMetric:
    """What holds for each entry of the registry."""

    def test_types_agree(self, name, device):
        levels = [image.to(device) for image in images(3)]
        expected = metrics.compute([name], *levels)[name]
        assert expected.shape == (3,)
        assert expected.dtype == torch.float32
        single = metrics.compute([name], *(image.float() / 255 for image in levels))[name]
        torch.testing.assert_close(single, expected, rtol=0, atol=0)
        double = metrics.compute([name], *(image.double() / 255 for image in levels))[name]
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), expected, rtol=1e-4, atol=1e-5)

    def test_batch_equals_singles(self, name, device):
        batch = [image.to(device) for image in images(5)]
        together = metrics.compute([name], *batch)[name]
        apart = [metrics.compute([name], *(image[i : i + 1] for image in batch))[name] for i in range(5)]
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-6)

    def test_records_no_gradient_and_changes_no_argument(self, name):
        originals = [image.float() / 255 for image in images(2)]
        batch = [image.clone().requires_grad_() for image in originals]
        assert not metrics.compute([name], *batch)[name].requires_grad
        assert all(torch.equal(image, original) for image, original in zip(batch, originals, strict=True))

    def test_strided_input(self, name):
        batch = images(2)
        flipped = [image.mT.contiguous().mT for image in batch]
        expected = metrics.compute([name], *batch)[name]
        torch.testing.assert_close(metrics.compute([name], *flipped)[name], expected, rtol=1e-6, atol=1e-6)

    def test_nan_gives_nan(self, name):
        batch = [image.float() / 255 for image in images(3)]
        batch[0][1, 0, 20, 20] = float("nan")
        assert metrics.compute([name], *batch)[name].isnan().tolist() == [False, True, False]

    def test_minimum_size_is_exact(self, name):
        smallest = metrics.get(name).minimum_size
        assert metrics.compute([name], *images(1, smallest))[name].isfinite().all()
        if smallest > 1:
            with pytest.raises(DataError, match=f"{smallest}x{smallest}"):
                metrics.compute([name], *images(1, smallest - 1))

    def test_refuses_colour(self, name):
        colour = torch.zeros(1, 3, 48, 48)
        with pytest.raises(ValueError, match="must be luma"):
            metrics.compute([name], colour, colour, colour)
