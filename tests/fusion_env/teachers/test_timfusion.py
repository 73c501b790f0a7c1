"""TIMFusion against the published networks, with and without the statistics of the image at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.teachers.batch_statistics import use_batch_statistics
from fusion_env.teachers.timfusion import TIMFusion

KEYS = {"timfusion": "output_batch_stats", "timfusion-eval": "output"}


@torch.inference_mode()
@pytest.mark.parametrize("name", KEYS)
def test_golden_case(reference_dir: Path, official_files: Callable[[str], Path], device: str, name: str) -> None:
    case = np.load(reference_dir / "reference/teachers/timfusion_caseA.npz")
    teacher = teachers.load(name, official_files("timfusion")).to(device)
    vis, ir = (torch.from_numpy(case[key]).to(device) for key in ("vi", "ir"))
    raw = teacher.forward_raw(ir=ir, vis=vis)
    np.testing.assert_allclose(raw.cpu().numpy(), case[KEYS[name]], rtol=0, atol=2e-5)
    fused = teacher(ir, vis.repeat(1, 3, 1, 1))
    torch.testing.assert_close(fused, raw.clamp(0, 1), rtol=0, atol=1e-4)


def test_size_and_cost() -> None:
    inputs = (torch.zeros(1, channels, 224, 224, device="meta") for channels in (1, 3))
    assert thop_counts(TIMFusion().to("meta"), tuple(inputs)) == (35_264_046_006, 1_232_225)


@torch.inference_mode()
def test_padding_is_at_the_bottom_and_right() -> None:
    teacher = TIMFusion(batch_statistics=False).eval()
    vis, ir = (torch.rand(1, 1, 66, 71, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    padded = [F.pad(image, (0, 1, 0, 2), mode="reflect") for image in (vis, ir)]
    raw = teacher.forward_raw(vis=padded[0], ir=padded[1])
    assert torch.equal(teacher.fuse_luma(ir=ir, vis=vis), raw[..., :66, :71].clamp(0, 1))


@torch.inference_mode()
def test_statistics_stay_those_of_the_image_in_every_mode() -> None:
    teacher = TIMFusion().eval()
    before = teacher.fingerprint()
    vis, ir = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    evaluated = teacher.forward_raw(ir=ir, vis=vis)
    teacher.model_2.stem2[3].running_mean += 5
    assert torch.equal(teacher.forward_raw(ir=ir, vis=vis), evaluated)
    assert teacher.model_1.cells[0].preprocess1.op[2].training is False
    teacher.model_2.stem2[3].running_mean -= 5
    assert teacher.fingerprint() == before


def test_the_switch_is_part_of_the_fingerprint() -> None:
    first, second = TIMFusion(), TIMFusion(batch_statistics=False)
    second.load_state_dict(first.state_dict())
    assert first.fingerprint() != second.fingerprint()


def test_batch_statistics_by_hand() -> None:
    norm = torch.nn.BatchNorm2d(1, eps=1e-12).eval()
    x = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    assert norm(x).flatten().tolist() == pytest.approx([1, 3])
    use_batch_statistics(norm)
    assert norm(x).flatten().tolist() == pytest.approx([-1, 1])
    assert (norm.running_mean.item(), norm.running_var.item(), norm.num_batches_tracked.item()) == (0, 1, 0)
