from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.weights import train_teacher
from experiments.weights.against_averaging import CLIPPED, METRICS, compare_with_averaging, comparison_table
from experiments.weights.train_teacher import (
    SCENES,
    SMALL_PIXELS,
    TEXTURES,
    Settings,
    draw_shape,
    edge_preservation,
    visual_information,
)
from experiments.weights.training import seeded
from fusion_env.data import ProceduralScenes, luma_levels, rgb_to_luma
from fusion_env.metrics import qabf, vif
from fusion_env.teachers.ldfusion import LDFusion
from student.weights import save_state


def test_averaging_compared_with_itself() -> None:
    source = ProceduralScenes(2, 64, 80, 0)
    methods = {"mean": lambda ir, vis: (ir + (rgb_to_luma(vis) * 255).round() / 255) / 2}
    table = compare_with_averaging(source, range(2), methods)
    assert list(table) == ["average", "mean"]
    assert table["average"] == pytest.approx(table["mean"], rel=0.02)
    assert comparison_table(table).count("|") == (len(METRICS) + 3) * 4


def test_pixels_driven_to_either_end_are_counted() -> None:
    def stripes(ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(ir.shape[-1]) < ir.shape[-1] // 4, 0.0, 0.5).expand_as(ir)

    table = compare_with_averaging(ProceduralScenes(1, 64, 80, 0), [0], {"quarter": stripes})
    assert table["quarter"][CLIPPED] == pytest.approx(25)


@pytest.mark.parametrize(
    ("term", "metric", "tolerance"), [(visual_information, vif, 1e-3), (edge_preservation, qabf, 0.1)]
)
def test_training_objective_holds_the_published_metrics(
    term: Callable[..., torch.Tensor], metric: Callable[..., torch.Tensor], tolerance: float
) -> None:
    source = ProceduralScenes(3, 96, 96, 1)
    pairs = [source.load(i) for i in range(3)]
    ir = torch.stack([pair.ir for pair in pairs]).float() / 255
    vis = torch.stack([luma_levels(pair.vis) for pair in pairs]).float() / 255
    fused = ((ir + vis) / 2).mul(255).round().div(255).requires_grad_(True)
    value = term(fused, ir=ir, vis=vis)
    assert value.item() == pytest.approx(float(metric(fused.detach(), ir=ir, vis=vis).mean()), rel=tolerance)
    value.backward()
    assert fused.grad.isfinite().all()
    assert fused.grad.abs().sum() > 0


def test_no_training_batch_is_larger_than_its_pictures() -> None:
    small, large = (
        [draw_shape(is_small, np.random.default_rng(seed)) for seed in range(50)] for is_small in (True, False)
    )
    pixels = [batch * height * width for batch, (height, width) in small]
    assert min(pixels) > 0.95 * SMALL_PIXELS
    assert max(pixels) <= SMALL_PIXELS
    for shape, sizes in ((small, (SCENES, TEXTURES)), (large, (SCENES, TEXTURES))):
        for _, (height, width) in shape:
            for kind in sizes:
                assert any(height <= size[1] and width <= size[2] for size in kind)


@pytest.mark.slow
def test_an_interrupted_training_continues_and_starts_from_given_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [np.random.default_rng(0).integers(256, size=(2, 64, 64), dtype=np.uint8)]
    for name in ("load_scenes", "load_textures"):
        monkeypatch.setattr(train_teacher, name, lambda *_: pictures)
    monkeypatch.setattr(train_teacher, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(train_teacher, "draw_shape", lambda *_: (1, (41, 48)))
    settings, start = Settings(iterations=3, dtype="float32"), tmp_path / "start.safetensors"
    save_state(seeded(LDFusion, 7).state_dict(), start)
    whole = train_teacher.train(settings, start, tmp_path / "whole.pt").state_dict()

    class Crash(Exception):
        pass

    drawn = []

    def crash(*_: object) -> tuple[int, tuple[int, int]]:
        drawn.append((1, (41, 48)))
        if len(drawn) == 3:
            raise Crash
        return drawn[-1]

    monkeypatch.setattr(train_teacher, "draw_shape", crash)
    with pytest.raises(Crash):
        train_teacher.train(settings, start, tmp_path / "cut.pt")
    monkeypatch.setattr(train_teacher, "draw_shape", lambda *_: (1, (41, 48)))
    continued = train_teacher.train(settings, start, tmp_path / "cut.pt").state_dict()
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
