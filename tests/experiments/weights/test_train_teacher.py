import pytest
import torch

from experiments.weights.against_averaging import METRICS, compare_with_averaging, comparison_table
from experiments.weights.train_teacher import draw_batch, visual_information
from fusion_env.data import ProceduralScenes, luma_levels, rgb_to_luma
from fusion_env.metrics import vif


def test_averaging_compared_with_itself() -> None:
    source = ProceduralScenes(2, 64, 80, 0)
    methods = {"mean": lambda ir, vis: (ir + (rgb_to_luma(vis) * 255).round() / 255) / 2}
    table = compare_with_averaging(source, range(2), methods)
    assert list(table) == ["average", "mean"]
    assert table["average"] == pytest.approx(table["mean"], rel=0.02)
    assert comparison_table(table).count("|") == (len(METRICS) + 2) * 4


def test_training_objective_holds_the_published_vif() -> None:
    source = ProceduralScenes(3, 96, 96, 1)
    pairs = [source.load(i) for i in range(3)]
    ir = torch.stack([pair.ir for pair in pairs]).float() / 255
    vis = torch.stack([luma_levels(pair.vis) for pair in pairs]).float() / 255
    fused = ((ir + vis) / 2).mul(255).round().div(255).requires_grad_(True)
    value = visual_information(fused, ir=ir, vis=vis)
    assert value.item() == pytest.approx(float(vif(fused.detach(), ir=ir, vis=vis).mean()), rel=1e-3)
    value.backward()
    assert fused.grad.isfinite().all()
    assert fused.grad.abs().sum() > 0


def test_batches_are_seeded_and_in_range() -> None:
    images = torch.randint(256, (2, 2, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = (draw_batch(images, 4, 48, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (4, 2, 48, 48)
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
