import pickle

import pytest
import torch
from torch import Tensor, nn

from fusion_env import metrics
from fusion_env.metrics import quality


class Brightness(nn.Module):
    """A score whose value is known, and that remembers what it was shown."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images.mean(dim=(1, 2, 3))


def luma(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(3, 1, 40, 40, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestQualityMetric:
    def test_sees_whole_levels_and_returns_the_score(self):
        scorer = Brightness()
        images = luma(0)
        value = metrics.quality_metric("brightness", scorer)(images)
        assert torch.equal(scorer.seen, torch.floor(images * 255 + 0.5) / 255)
        assert torch.equal(value, scorer.seen.mean(dim=(1, 2, 3)))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
    def test_other_types_are_shown_as_float32(self, dtype):
        scorer = Brightness()
        images = luma(1, torch.float64)
        given = (images * 255).to(torch.uint8) if dtype == torch.uint8 else images
        value = metrics.quality_metric("brightness", scorer)(given)
        assert scorer.seen.dtype == torch.float32
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)

    def test_computed_with_others(self):
        metric = metrics.quality_metric("brightness", Brightness())
        assert not metric.needs_sources
        values = metrics.compute(["sd", metric], luma(2))
        assert list(values) == ["sd", "brightness"]

    def test_description_names_the_score(self):
        assert "Brightness" in metrics.quality_metric("mine", Brightness()).summary


def test_registered_clip_iqa_loads_once(monkeypatch):
    loaded = []

    def load() -> nn.Module:
        loaded.append(Brightness())
        return loaded[-1]

    monkeypatch.setattr("fusion_env.perception.clip_iqa.load_clip_iqa", load)
    quality.cached_clip_iqa.cache_clear()
    try:
        for seed in (0, 1):
            expected = torch.floor(luma(seed) * 255 + 0.5).mean(dim=(1, 2, 3)) / 255
            torch.testing.assert_close(metrics.compute(["clip_iqa"], luma(seed))["clip_iqa"], expected)
        assert len(loaded) == 1
    finally:
        quality.cached_clip_iqa.cache_clear()


def test_real_clip_iqa_on_luma():
    from fusion_env.perception.clip_iqa import untrained_clip_iqa

    scorer = untrained_clip_iqa()
    images = luma(3)[:2]
    value = metrics.quality_metric("clip_iqa", scorer)(images)
    torch.testing.assert_close(value, scorer((torch.floor(images * 255 + 0.5) / 255).expand(-1, 3, -1, -1)))


def test_survives_pickling():
    metric = pickle.loads(pickle.dumps(metrics.quality_metric("layer", nn.Flatten(0))))
    assert metric(torch.ones(2, 1, 1, 1)).tolist() == [1.0, 1.0]
