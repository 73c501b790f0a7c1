"""KDFuse against the published network; its merged branches against the two steps that they replace."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.data.colour import rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from fusion_env.teachers.kdfuse import KDFuse
from fusion_env.teachers.kdfuse_blocks import EdgeResidualBlock

KEYS = {"kdfuse": "output_batch_stats", "kdfuse-eval": "output"}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("name", KEYS)
def test_golden_case(reference_dir: Path, official_files: Callable[[str], Path], device: str, name: str) -> None:
    case = np.load(reference_dir / "reference/teachers/kdfuse_caseA.npz")
    teacher = teachers.load(name, official_files("kdfuse")).to(device)
    raw = teacher.forward_raw(ir=torch.from_numpy(case["ir"]).to(device), vis=torch.from_numpy(case["vi"]).to(device))
    np.testing.assert_allclose(raw.cpu().numpy(), case[KEYS[name]], rtol=0, atol=2e-5)


def test_size_and_cost() -> None:
    teacher = KDFuse()
    assert sum(p.numel() for p in teacher.parameters()) == 4_018_045
    inputs = (torch.zeros(1, channels, 224, 224, device="meta") for channels in (1, 3))
    assert thop_counts(teacher.to("meta"), tuple(inputs)) == (125_020_954_112, 2_491_677)


@torch.inference_mode()
def test_merged_branches_equal_both_steps() -> None:
    block = EdgeResidualBlock(8, 8).repblock1
    generator = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        if parameter.requires_grad:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = draw(2, 8, 9, 11)
    expected = block.rbr_3x3_branch(x) + x
    for name in ("sbx", "sby", "lpl"):
        branch = block.get_submodule(f"rbr_conv1x1_{name}_branch")
        padded = branch.b0.view(1, -1, 1, 1).repeat(2, 1, 11, 13)
        padded[..., 1:-1, 1:-1] = F.conv2d(x, branch.k0, branch.b0)
        expected += F.conv2d(padded, branch.scale * branch.mask, branch.bias, groups=8)
    torch.testing.assert_close(block(x), F.leaky_relu(expected, 0.05), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_coloured_picture_is_stretched() -> None:
    teacher = KDFuse().eval()
    ir, vis = draw(1, 1, 64, 64), draw(1, 3, 64, 64, seed=1)
    ycbcr = rgb_to_ycbcr(vis)
    ycbcr[:, :1] = teacher.forward_raw(ir=ir, vis=rgb_to_luma(vis))
    picture = ycbcr_to_rgb(ycbcr).clamp(0, 1)
    expected = rgb_to_luma((picture - picture.min()) / (picture.max() - picture.min()))
    torch.testing.assert_close(teacher(ir, vis), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_grey_picture_spans_the_whole_range() -> None:
    fused = KDFuse().eval()(draw(2, 1, 64, 64), draw(2, 1, 64, 64, seed=1).repeat(1, 3, 1, 1))
    torch.testing.assert_close(fused.amin(dim=(1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(fused.amax(dim=(1, 2, 3)), torch.ones(2), rtol=0, atol=1e-6)
