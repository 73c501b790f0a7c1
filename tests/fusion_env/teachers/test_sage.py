"""SAGE against the published network, and its official weights against the official pictures."""

import copy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.measurements.thop_counts import thop_counts
from fusion_env import teachers
from fusion_env.data.pairs import ImagePair
from fusion_env.teachers.sage import SAGE

# The pictures are 768x1024; no pixel depends on others further away than the difference of the two.
SEEN_ROWS, CHECKED_ROWS = 256, 192


@pytest.fixture(scope="module")
def official(reference_dir: Path) -> SAGE:
    return teachers.load("sage", reference_dir / "reference/teachers/sage_checkpoint.pt")


@torch.inference_mode()
@pytest.mark.parametrize("weights", ["made", "official"])
def test_golden_case(
    reference_dir: Path, official_files: Callable[[str], Path], official: SAGE, device: str, weights: str
) -> None:
    file = {"made": "sage_caseA.npz", "official": "sage_checkpoint_caseA.npz"}[weights]
    case = np.load(reference_dir / "reference/teachers" / file)
    teacher = teachers.load("sage", official_files("sage")) if weights == "made" else copy.deepcopy(official)
    raw = teacher.to(device).forward_raw(
        ir=torch.from_numpy(case["ir"]).to(device), vis=torch.from_numpy(case["vi"]).to(device)
    )
    np.testing.assert_allclose(raw.cpu().numpy(), case["output"], rtol=0, atol=2e-5)


def test_size_and_cost() -> None:
    inputs = (torch.zeros(1, channels, 224, 224, device="meta") for channels in (1, 3))
    assert thop_counts(SAGE().eval().to("meta"), tuple(inputs)) == (3_321_651_200, 135_617)


def coloured(luma: Tensor, vis: np.ndarray) -> np.ndarray:
    """Put back the visible image's chroma as the official script does: 8-bit OpenCV, then its float formula."""
    _, cr, cb = (torch.from_numpy(c / np.float32(255) - 0.5) for c in cv2.split(cv2.cvtColor(vis, cv2.COLOR_RGB2YCrCb)))
    rgb = torch.stack([luma + 1.403 * cr, luma - 0.714 * cr - 0.344 * cb, luma + 1.773 * cb], dim=-1)
    return (rgb * 255 + 0.5).clamp(0, 255).byte().numpy()


@pytest.mark.parametrize("index", range(3))
def test_official_pictures(official: SAGE, reference_dir: Path, index: int) -> None:
    folder = reference_dir / "reference/teachers/sage_real"
    vis, fused = (cv2.imread(str(folder / part / f"{index:05}.png"))[..., ::-1].copy() for part in ("vi", "fused"))
    ir = cv2.imread(str(folder / "ir" / f"{index:05}.png"), cv2.IMREAD_GRAYSCALE)
    vis, ir = vis[:SEEN_ROWS], ir[:SEEN_ROWS]
    pair = ImagePair("x", torch.from_numpy(ir)[None], torch.from_numpy(vis).permute(2, 0, 1))
    difference = np.abs(coloured(official.fuse_pair(pair)[0], vis).astype(int) - fused[:SEEN_ROWS])[:CHECKED_ROWS]
    assert difference.max() <= 1
    assert (difference > 0).sum() < 50  # by rounding; with an unrounded visible luma there are 50 thousand


def test_luma_is_opencvs() -> None:
    vis = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    levels = cv2.cvtColor(vis, cv2.COLOR_RGB2YCrCb)[..., 0]
    teacher, ir = SAGE().eval(), torch.zeros(1, 1, 90, 70)
    rgb = torch.from_numpy(vis).permute(2, 0, 1)[None] / 255
    assert torch.equal(teacher(ir, rgb), teacher.fuse_luma(ir=ir, vis=torch.from_numpy(levels)[None, None] / 255))


@torch.inference_mode()
def test_values_between_the_levels_are_not_rounded(official: SAGE) -> None:
    generator = torch.Generator().manual_seed(0)
    luma, ir = (torch.rand(1, 1, 64, 64, generator=generator) for _ in range(2))
    pictures = torch.cat([luma, (luma * 255).round() / 255]).repeat(1, 3, 1, 1)
    fused = official(ir.repeat(2, 1, 1, 1), pictures)
    torch.testing.assert_close(
        fused, official.fuse_luma(ir=ir.repeat(2, 1, 1, 1), vis=pictures[:, :1]), rtol=0, atol=1e-6
    )
    assert not torch.equal(fused[0], fused[1])
