"""Several teachers as one, against results worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fusion_env import metrics, teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.errors import ConfigError, MissingRequirementsError, UnknownNameError


def only_ir(ir: Tensor, vis: Tensor) -> Tensor:
    return ir


def only_red(ir: Tensor, vis: Tensor) -> Tensor:
    return vis[:, :1]


@pytest.fixture
def members() -> list[teachers.Teacher]:
    return [teachers.from_callable(f, name=f.__name__, fingerprint="1") for f in (only_ir, only_red)]


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Infrared and grey visible; in the first image infrared has the larger contrast, in the second visible."""
    noise = torch.rand(2, 1, 40, 44, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.8, 0.2]).view(2, 1, 1, 1)
    return noise * strength, (noise.flip(3) * (1 - strength)).repeat(1, 3, 1, 1)


def test_mean(members: list[teachers.Teacher], images: tuple[Tensor, Tensor], device: str) -> None:
    ir, vis = (image.to(device) for image in images)
    fused = teachers.Ensemble(members)(ir, vis)
    torch.testing.assert_close(fused, (ir + vis[:, :1]) / 2)


@pytest.mark.parametrize("metric", ["sd", "ssim"])
def test_best_by_metric(
    members: list[teachers.Teacher], images: tuple[Tensor, Tensor], device: str, metric: str
) -> None:
    ir, vis = (image.to(device) for image in images)
    fused = teachers.Ensemble(members, combine=metric)(ir, vis)
    for i in range(2):
        one = [image[i : i + 1] for image in (ir, vis[:, :1])]
        scores = [float(metrics.compute([metric], candidate, ir=one[0], vis=one[1])[metric]) for candidate in one]
        assert torch.equal(fused[i : i + 1], one[int(np.argmax(scores))])
    if metric == "sd":
        assert torch.equal(fused, torch.cat([ir[:1], vis[1:, :1]]))


def test_stored_results_among_the_members(members: list[teachers.Teacher], tmp_path: Path) -> None:
    Image.new("L", (44, 40), 200).save(tmp_path / "a.png")
    ensemble = teachers.Ensemble([teachers.load("folder", tmp_path), members[0]])
    assert ensemble.whole_image_only
    pair = ImagePair("a", torch.full((1, 40, 44), 100, dtype=torch.uint8), torch.zeros(3, 40, 44, dtype=torch.uint8))
    torch.testing.assert_close(ensemble.fuse_pair(pair), torch.full((1, 40, 44), 150 / 255))
    ensemble.check(["a"])
    with pytest.raises(MissingRequirementsError, match=r"no fused image for 2 of 3 pairs: b, c\."):
        ensemble.check(["a", "b", "c"])


def test_fingerprint(members: list[teachers.Teacher]) -> None:
    prints = {
        teachers.Ensemble(chosen, combine).fingerprint()
        for chosen, combine in ((members, "mean"), (members, "sd"), (members[:1], "mean"), (members[::-1], "sd"))
    }
    assert len(prints) == 4


def test_by_name(tmp_path: Path, images: tuple[Tensor, Tensor]) -> None:
    (tmp_path / "both.yaml").write_text(
        "combine: sd\nteachers:\n  - {name: laplacian}\n  - {name: exported, weights: sub/toy.ts}\n"
    )
    with pytest.raises(MissingRequirementsError, match=r"sub/toy\.ts is no file"):
        teachers.load("ensemble", tmp_path / "both.yaml")
    (tmp_path / "both.yaml").write_text("teachers: [{name: laplacian}, {name: laplacian}]")
    ensemble = teachers.load("ensemble", tmp_path / "both.yaml")
    torch.testing.assert_close(ensemble(*images), teachers.load("laplacian")(*images))
    assert not ensemble.training


BROKEN = [
    "",
    "[]",
    "teachers: 3",
    "teachers: [{weights: x}]",
    "teachers: [{name: [sage]}]",
    "teachers: [{name: folder, weights: 5}]",
    "a: b",
    "x: [",
    "{a: }: b",
]


@pytest.mark.parametrize("text", BROKEN)
def test_other_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml") as error:
        teachers.load("ensemble", tmp_path / "x.yaml")
    assert "\n" not in str(error.value)


def test_a_file_that_lists_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    path.write_text("teachers: [{name: laplacian}, {name: ensemble, weights: both.yaml}]")
    with pytest.raises(ConfigError, match="lists an ensemble"):
        teachers.load("ensemble", path)


def test_misuse(members: list[teachers.Teacher]) -> None:
    with pytest.raises(ConfigError, match="at least one teacher"):
        teachers.Ensemble([])
    with pytest.raises(UnknownNameError, match="unknown metric 'ssin'"):
        teachers.Ensemble(members, combine="ssin")
    with pytest.raises(MissingRequirementsError, match="YAML"):
        teachers.load("ensemble")
