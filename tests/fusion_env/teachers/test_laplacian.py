"""The classical teacher: exact reconstruction, detail from the sharper source, hot targets kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion_env.teachers.laplacian import LaplacianTeacher


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def fuse(ir: Tensor, vis: Tensor) -> Tensor:
    return LaplacianTeacher().fuse_luma(ir=ir, vis=vis)


@settings(deadline=None, max_examples=15)
@given(height=st.integers(32, 130), width=st.integers(32, 130))
def test_fusing_an_image_with_itself_gives_it_back(height: int, width: int) -> None:
    image = draw(1, 1, height, width)
    torch.testing.assert_close(fuse(image, image), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_flat_images_are_averaged(level: float) -> None:
    fused = fuse(torch.full((1, 1, 48, 50), level), torch.full((1, 1, 48, 50), 0.5))
    torch.testing.assert_close(fused, torch.full_like(fused, (level + 0.5) / 2), rtol=0, atol=1e-5)


def test_detail_comes_from_the_source_that_has_it() -> None:
    stripes = torch.arange(64).view(1, 1, 1, 64).remainder(4).ge(2).float().expand(1, 1, 64, 64)
    vis, ir = torch.full((1, 1, 64, 64), 0.5), torch.full((1, 1, 64, 64), 0.5)
    vis[..., :32] = 0.4 + 0.2 * stripes[..., :32]
    ir[..., 32:] = 0.4 + 0.2 * stripes[..., 32:]
    fused = fuse(ir, vis)
    for columns in (slice(4, 28), slice(36, 60)):
        assert fused[..., columns].std() > 0.9 * (0.2 * stripes[..., columns]).std()


def test_hot_target_in_the_dark_is_kept() -> None:
    vis, ir = torch.full((1, 1, 96, 96), 0.05), torch.full((1, 1, 96, 96), 0.1)
    ir[..., 40:56, 44:52] = 0.9
    fused = fuse(ir, vis)
    assert fused[..., 42:54, 46:50].mean() - fused[..., :20, :20].mean() > 0.7


def test_samples_do_not_see_their_neighbours(device: str) -> None:
    teacher = LaplacianTeacher().to(device)
    vis, ir = draw(2, 1, 40, 56).to(device), draw(2, 1, 40, 56, seed=1).to(device)
    both = teacher.fuse_luma(ir=ir, vis=vis)
    torch.testing.assert_close(both[1:], teacher.fuse_luma(ir=ir[1:], vis=vis[1:]), rtol=0, atol=1e-6)
    assert 0 <= both.min() <= both.max() <= 1


def test_too_small() -> None:
    with pytest.raises(ValueError, match=r"at least 32 pixels. Got \(31, 64\)"):
        fuse(torch.zeros(1, 1, 31, 64), torch.zeros(1, 1, 31, 64))
