from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.metrics import en, mi
from fusion_env.metrics.information import histograms, scattered_counts
from tests.fusion_env.metrics.named import named


def noise(seed: int, *shape: int, high: int = 256) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def mi_by_counting(fused: torch.Tensor, source: torch.Tensor) -> float:
    pairs, counts = np.unique(torch.stack([fused.flatten(), source.flatten()]).numpy(), axis=1, return_counts=True)
    joint = counts / counts.sum()
    share = [dict(zip(*np.unique(image.numpy(), return_counts=True), strict=True)) for image in (fused, source)]
    total = 0.0
    for f, s, p in zip(*pairs, joint, strict=True):
        total += p * log2(p / (share[0][f] / fused.numel() * share[1][s] / source.numel()))
    return total


class TestEN:
    def test_constant_is_zero(self, device):
        assert en(torch.full((2, 1, 3, 4), 77, dtype=torch.uint8, device=device)).tolist() == [0.0, 0.0]

    def test_every_level_once_is_eight_bits(self, device):
        levels = torch.arange(256, dtype=torch.uint8, device=device).view(1, 1, 16, 16)
        assert en(levels).item() == pytest.approx(8.0, rel=1e-6)

    def test_quarters_by_hand(self):
        levels = torch.tensor([[[[9, 9, 9, 200]]], [[[1, 2, 2, 1]]]], dtype=torch.uint8)
        expected = [-0.75 * log2(0.75) - 0.25 * log2(0.25), 1.0]
        assert en(levels).tolist() == pytest.approx(expected, rel=1e-6)

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 2**31))
    def test_unchanged_by_a_permutation(self, seed):
        levels = noise(seed, 2, 1, 8, 9)
        order = torch.randperm(72, generator=torch.Generator().manual_seed(seed))
        permuted = levels.flatten(1)[:, order].view_as(levels)
        assert torch.equal(en(permuted), en(levels))

    def test_nan_stays_in_its_image(self):
        images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        images[1, 0, 3, 3] = float("nan")
        assert en(images).isnan().tolist() == [False, True, False]


class TestMI:
    def test_equals_counting(self, device):
        fused, ir, vis = (noise(seed, 2, 1, 30, 40, high=20) for seed in (0, 1, 2))
        vis = (vis + fused) // 2
        expected = [sum(mi_by_counting(fused[i], image[i]) for image in (ir, vis)) for i in range(2)]
        assert mi(**named(image.to(device) for image in (fused, ir, vis))).tolist() == pytest.approx(expected, rel=1e-6)

    def test_copies_share_their_entropy(self):
        fused = noise(3, 1, 1, 16, 16)
        assert mi(fused, ir=fused, vis=fused).item() == pytest.approx(2 * en(fused).item(), rel=1e-6)

    def test_four_pixels_by_hand(self):
        # A tells F exactly, one bit; B is independent of F.
        fused = torch.tensor([[[[0, 0], [9, 9]]]], dtype=torch.uint8)
        ir = torch.tensor([[[[5, 7], [5, 7]]]], dtype=torch.uint8)
        assert mi(fused, ir=ir, vis=255 - fused).item() == pytest.approx(1.0, rel=1e-6)

    def test_constant_fused_shares_nothing(self):
        ir, vis = noise(4, 1, 1, 9, 9), noise(5, 1, 1, 9, 9)
        assert mi(torch.full_like(ir, 3), ir=ir, vis=vis).item() == 0.0

    def test_many_small_images(self):
        fused, ir, vis = (noise(seed, 40, 1, 4, 4, high=4) for seed in (6, 7, 8))
        expected = [mi(fused[i : i + 1], ir=ir[i : i + 1], vis=vis[i : i + 1]).item() for i in range(40)]
        assert mi(fused, ir=ir, vis=vis).tolist() == pytest.approx(expected)

    @settings(deadline=None, max_examples=10)
    @given(seed=st.integers(0, 2**31))
    def test_unchanged_by_relabelling_the_levels(self, seed):
        fused, ir, vis = (noise(seed + i, 1, 1, 12, 12, high=32) for i in range(3))
        relabelled = torch.randperm(256, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)[fused.long()]
        torch.testing.assert_close(mi(relabelled, ir=ir, vis=vis), mi(fused, ir=ir, vis=vis))


class TestHistograms:
    def test_counts_each_row(self, device):
        index = torch.tensor([[0, 2, 2, 1], [3, 3, 3, 3]], dtype=torch.int32, device=device)
        assert histograms(index, bins=4).tolist() == [[1, 1, 2, 0], [0, 0, 0, 4]]

    def test_both_ways_of_counting_agree(self):
        flat = noise(3, 5000).int()
        assert torch.equal(scattered_counts(flat, 256), torch.bincount(flat, minlength=256))
