from math import exp, pi

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from fusion_env.metrics import qabf
from tests.fusion_env.metrics.named import named


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def edges(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    down = convolve2d(plane, [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], mode="same")
    across = convolve2d(plane, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], mode="same")
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = np.where(across == 0, pi / 2, np.arctan(down / across))
    return np.hypot(across, down), angle


def qabf_by_pixels(fused: np.ndarray, sources: list[np.ndarray]) -> float:
    """The published definition with the published kernels, pixel by pixel."""
    kept = weights = 0.0
    strength_f, angle_f = edges(fused)
    for source in sources:
        strength_s, angle_s = edges(source)
        for gs, gf, s, f in zip(*(x.ravel() for x in (strength_s, strength_f, angle_s, angle_f)), strict=True):
            ratio = gf if gs == gf else min(gs, gf) / max(gs, gf)
            agreement = 1 - abs(s - f) / (pi / 2)
            quality = 0.9994 / (1 + exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + exp(-22 * (agreement - 0.8)))
            kept, weights = kept + quality * gs, weights + gs
    return kept / weights


@pytest.mark.parametrize("levels", [256, 3])
def test_equals_the_definition(levels, device):
    # With few levels, responses of exactly 0 are frequent: the fixed angle of pi / 2, and its sign.
    fused, ir, vis = (noise(seed, 1, 1, 17, 23) // (256 // levels) for seed in (0, 1, 2))
    expected = qabf_by_pixels(*(fused[0, 0].double().numpy(), [image[0, 0].double().numpy() for image in (ir, vis)]))
    assert qabf(**named(image.to(device) for image in (fused, ir, vis))).item() == pytest.approx(expected, rel=2e-6)
    doubles = [image.double() / 255 for image in (fused, ir, vis)]
    assert qabf(**named(doubles)).item() == pytest.approx(expected, rel=1e-10)


def test_copy_keeps_all_but_what_the_sigmoids_take():
    image = noise(3, 2, 1, 20, 20)
    best = 0.9994 * 0.9879 / (1 + exp(-22 * 0.2))
    assert qabf(image, ir=image, vis=image).tolist() == pytest.approx([best] * 2, rel=1e-5)


def test_no_edges_to_keep():
    black = torch.zeros(1, 1, 9, 9)
    assert qabf(black, ir=black, vis=black).item() == 0.0


def test_sources_weigh_by_their_edges():
    fused, faint = noise(4, 1, 1, 30, 30), torch.zeros(1, 1, 30, 30, dtype=torch.uint8)
    assert qabf(fused, ir=faint, vis=fused).item() == pytest.approx(qabf(fused, ir=fused, vis=fused).item(), rel=1e-6)


def test_nan_stays_in_its_image():
    images = [noise(seed, 3, 1, 12, 12).float() / 255 for seed in (5, 6, 7)]
    images[2][1, 0, 4, 4] = float("nan")
    assert qabf(**named(images)).isnan().tolist() == [False, True, False]
