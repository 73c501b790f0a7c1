from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_env.config import DistillConfig
from fusion_env.data import ImagePair, PairSource, write_png
from fusion_env.errors import ConfigError
from fusion_env.metrics import ag, ssim_pair, vif
from fusion_env.report import ReportSplit, model_input
from fusion_env.task import build_task
from fusion_env.teachers import Teacher
from fusion_env.whole_images import WholeImages

MakeConfig = Callable[..., DistillConfig]


class Average(torch.nn.Module):
    """A student that averages the sources."""

    def forward(self, ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        return (vis + ir) / 2


def test_scores_are_means_over_whole_images(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(scenes=20))
    assert len(task.splits.report) == 2
    got = task.report.score(Average())
    rows = []
    for index in task.splits.report:
        ir, vis, _ = model_input(task.source.load(index), torch.device("cpu"))
        fused, teacher = (vis + ir) / 2, task.report.images.teacher_image(index)
        rows.append((ag(fused), vif(fused, ir=ir, vis=vis), (fused - teacher).abs().mean(), ssim_pair(fused, teacher)))
    for name, values in zip(("ag", "vif", "mae", "ssim_teacher"), zip(*rows, strict=True), strict=True):
        assert got[name] == pytest.approx(float(torch.stack([v.squeeze() for v in values]).mean()), rel=1e-5)


def test_the_teacher_is_hashed_once(tiny_config: MakeConfig, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, calls = build_task(tiny_config(scenes=20)), []
    original = type(task.teacher).fingerprint

    def counted(teacher: Teacher) -> str:
        calls.append(teacher)
        return original(teacher)

    monkeypatch.setattr(type(task.teacher), "fingerprint", counted)
    images = WholeImages(task.source, task.teacher, tiny_cache, torch.device("cpu"))
    report = ReportSplit(images, task.splits.report, task.quality, task.scorer, colour=False)
    report.teacher()
    report.score(Average())
    assert (len(task.splits.report), len(calls)) == (2, 1)


def test_a_pair_is_decoded_once_for_its_images_and_the_teachers(tiny_config: MakeConfig, tmp_path: Path) -> None:
    task, decoded = build_task(tiny_config(scenes=20)), []

    class Counted(PairSource):
        name, names, sizes = task.source.name, task.source.names, task.source.sizes

        def load(self, index: int) -> ImagePair:
            decoded.append(index)
            return task.source.load(index)

        def fingerprint(self) -> str:
            return task.source.fingerprint()

    images = WholeImages(Counted(), task.teacher, tmp_path, torch.device("cpu"))
    (stored,) = images.by_size([3, 1])
    assert decoded == [3, 1]
    assert torch.equal(stored.ir[1], task.source.load(1).ir)
    assert torch.equal(stored.target[1].float(), images.teacher_image(1)[0])


def test_e_is_normalised_by_the_reward_split(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config())
    got, means = task.report.score(Average()), task.scorer.teacher_means
    shares = [got[name] / means[name] for name in ("vif", "iqa", "ssim")]
    assert got["e"] == pytest.approx(sum(shares) / 3, rel=1e-6)


def test_luma_is_in_whole_levels_and_chroma_restores_the_picture(tiny_config: MakeConfig) -> None:
    pair = build_task(tiny_config()).source.load(0)
    ir, vis, chroma = model_input(pair, torch.device("cpu"))
    assert torch.equal((vis * 255).round() / 255, vis)
    assert torch.equal((ir * 255).round().byte()[0], pair.ir)
    assert chroma.shape == (1, 2, *vis.shape[-2:])


def test_through_cameras_metrics_know_the_clean_pair(tiny_config: MakeConfig) -> None:
    whole = {"scenes": 20, "score_size": None, "score_crops": None}
    plain, task = build_task(tiny_config(**whole)), build_task(tiny_config(**whole, camera="rough"))
    rows = []
    for index in task.splits.report:
        seen, clean = task.report.images.pairs(index)
        assert torch.equal(clean.vis, plain.source.load(index).vis)
        assert not torch.equal(seen.vis, clean.vis)
        (ir, vis, _), (clean_ir, clean_vis, _) = (model_input(pair, torch.device("cpu")) for pair in (seen, clean))
        fused, teacher = (vis + ir) / 2, task.report.images.teacher_image(index)
        assert torch.equal(teacher, task.teacher.fuse_pair(seen).half().float()[None])
        rows.append((vif(fused, ir=clean_ir, vis=clean_vis), (fused - teacher).abs().mean()))
    got = task.report.score(Average())
    for name, values in zip(("vif", "mae"), zip(*rows, strict=True), strict=True):
        assert got[name] == pytest.approx(float(torch.stack([v.squeeze() for v in values]).mean()), rel=1e-5)
    assert got["vif"] < plain.report.score(Average())["vif"]


def test_cameras_leave_training_and_stage_0_as_they_are(tiny_config: MakeConfig) -> None:
    whole = {"scenes": 20, "score_size": None, "score_crops": None}
    plain, task = build_task(tiny_config(**whole)), build_task(tiny_config(**whole, camera="rough"))
    assert task.bank.key == plain.bank.key
    assert all(torch.equal(tensor, plain.stage0[name]) for name, tensor in task.stage0.items())
    assert plain.scored[0].clean is None
    assert torch.equal(task.scored[0].clean[:, :1], plain.scored[0].ir)
    assert torch.equal(task.scored[0].clean[:, 1:], plain.scored[0].vis)
    assert task.describe()["scored"] == "2 whole images of the reward split, through rough cameras"


def test_cameras_need_a_teacher_that_fuses_what_they_see(tiny_config: MakeConfig, tmp_path: Path) -> None:
    write_png(tmp_path / "any.png", np.zeros((64, 80), np.uint8))
    folder = {"teacher": "folder", "teacher_weights": str(tmp_path)}
    with pytest.raises(ConfigError, match="needs a teacher that fuses what the cameras see: 'folder'"):
        build_task(tiny_config(**folder, score_size=None, score_crops=None, camera="rough"))
