import pytest
import torch

from fusion_env import metrics
from fusion_env.metrics import Images, Metric


def counted(calls: list[int]) -> tuple[Metric, Metric]:
    """Two metrics that share one intermediate result; `calls` gets the size of each batch that it is computed for."""

    def mean(images: Images) -> torch.Tensor:
        calls.append(len(images.fused))
        return images.fused.mean(dim=(1, 2, 3))

    first = Metric("first", lambda images: images.once(mean), False, 1, True, "", "")
    second = Metric("second", lambda images: 2 * images.once(mean), False, 1, True, "", "")
    return first, second


class TestImages:
    def test_intermediate_results_are_computed_once_in_each_chunk(self, monkeypatch):
        monkeypatch.setattr("fusion_env.metrics.base.CHUNK_PIXELS_CPU", 2 * 8 * 8)
        calls: list[int] = []
        images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 8, 8)
        values = metrics.compute(counted(calls), images)
        assert calls == [2, 2, 1]
        assert values["first"].tolist() == [0, 1, 2, 3, 4]
        assert values["second"].tolist() == [0, 2, 4, 6, 8]

    def test_nothing_is_kept_between_calls(self):
        calls: list[int] = []
        first, _ = counted(calls)
        for level in (3, 7):
            assert first(torch.full((1, 1, 4, 4), level, dtype=torch.uint8)).item() == level
        assert calls == [1, 1]

    def test_metric_sees_levels_of_all_images(self):
        total = Metric(
            "total", lambda given: (given.fused + given.ir + given.vis).mean(dim=(1, 2, 3)), True, 1, True, "", ""
        )
        fused, ir, vis = (torch.full((1, 1, 2, 2), level / 255) for level in (10, 20, 30))
        assert total(fused, ir=ir, vis=vis).item() == 60

    def test_huge_images_are_a_chunk_of_their_own(self, monkeypatch):
        monkeypatch.setattr("fusion_env.metrics.base.CHUNK_PIXELS_CPU", 3)
        calls: list[int] = []
        counted(calls)[0](torch.zeros(3, 1, 4, 4))
        assert calls == [1, 1, 1]


class TestMetric:
    @pytest.mark.parametrize(
        ("function", "got"),
        [
            (lambda given: given.fused.mean(), r"shape \[\]"),
            (lambda given: given.fused.mean(dim=(2, 3)), r"shape \[3, 1\]"),
            (lambda given: 0.5, "a float"),
        ],
    )
    def test_one_value_for_each_image(self, function, got):
        metric = Metric("mine", function, False, 1, True, "", "")
        with pytest.raises(TypeError, match=rf"metric 'mine' must return one value for each image, .*\[3\].*Got {got}"):
            metric(torch.rand(3, 1, 4, 4))
