import pytest
import torch

from experiments.weights.against_averaging import compare_with_averaging
from fusion_env import teachers
from fusion_env.data import PairedFolder, PairSource, ProceduralScenes, make_splits


def check(source: PairSource, indices: tuple[int, ...]) -> None:
    table = compare_with_averaging(source, indices, {"teacher": teachers.load("embedded")})
    for metric in ("ag", "ei", "sd", "en"):
        assert table["teacher"][metric] > table["average"][metric], metric
    assert table["teacher"]["vif"] >= table["average"]["vif"]


@pytest.mark.slow
def test_it_beats_averaging_on_unseen_scenes() -> None:
    check(ProceduralScenes(8, 160, 192, 777_777), tuple(range(8)))


@pytest.mark.slow
def test_it_beats_averaging_on_real_pairs(reference_dir) -> None:
    source = PairedFolder(reference_dir / "data" / "roadscene")
    check(source, make_splits(source, 0).report[:8])


def test_batch_equals_singles() -> None:
    teacher = teachers.load("embedded")
    ir, vis = (torch.rand(3, c, 64, 72, generator=torch.Generator().manual_seed(c)) for c in (1, 3))
    with torch.inference_mode():
        together = teacher(ir, vis)
        alone = torch.cat([teacher(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
