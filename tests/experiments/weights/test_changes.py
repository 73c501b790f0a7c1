import numpy as np
import pytest

from experiments.weights.changes import PATTERNS, add_noise, add_pattern, add_ringing, denoise, sharpen

GREY = np.full((48, 64), 0.5, np.float32)


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_have_their_height_and_repeat_with_their_period(kind: str) -> None:
    pattern = add_pattern(GREY, kind, 4, 0.01) - GREY
    assert np.abs(pattern).max() == pytest.approx(0.01, rel=0.01)
    assert pattern.mean() == pytest.approx(0, abs=1e-3)
    if kind != "rings":
        assert np.array_equal(pattern[:-4, :-4], pattern[4:, 4:])
        assert not np.array_equal(pattern[:-2, :-2], pattern[2:, 2:]) or kind == "checkerboard"


def test_a_checkerboard_of_two_pixels_alternates() -> None:
    board = np.sign(add_pattern(GREY, "checkerboard", 2, 0.01) - GREY)
    assert (board[1:] == -board[:-1]).all()
    assert (board[:, 1:] == -board[:, :-1]).all()


def test_ringing_leaves_flat_areas_and_echoes_beside_edges() -> None:
    assert add_ringing(GREY, 2.0, 1.0) == pytest.approx(GREY, abs=1e-6)
    step = np.where(np.arange(64) < 32, 0.3, 0.7).astype(np.float32) * np.ones((48, 1), np.float32)
    ringing = add_ringing(step, 2.0, 1.0) - step
    row = ringing[24, 36:56]
    assert np.abs(row).max() > 0.005
    assert (np.diff(np.sign(row)) != 0).sum() >= 4
    assert np.abs(ringing[24, 4]) < 0.25 * np.abs(ringing[24, 28:36]).max()
    assert add_ringing(step, 2.0, 0.5) - step == pytest.approx(ringing / 2, abs=1e-6)


def test_denoising_smooths_flat_areas_and_keeps_edges() -> None:
    step = np.where(np.arange(64) < 32, 0.3, 0.7).astype(np.float32) * np.ones((48, 1), np.float32)
    noise = np.random.default_rng(0).standard_normal(step.shape, dtype=np.float32)
    left = denoise(add_noise(step, noise, 0.01), 0.01) - step
    assert left.std() < 0.004
    assert np.abs(left[:, 30:34]).max() < 0.03


def test_sharpening_adds_what_a_blur_takes_away() -> None:
    assert sharpen(GREY, 1.0, 1.0) == pytest.approx(GREY, abs=1e-6)
    step = np.where(np.arange(64) < 32, 0.3, 0.7).astype(np.float32) * np.ones((48, 1), np.float32)
    halo = sharpen(step, 1.0, 0.5) - step
    assert halo[24, 32] > 0.05 > 0 > halo[24, 31]
    assert sharpen(step, 1.0, 0.25) - step == pytest.approx(halo / 2, abs=1e-6)
