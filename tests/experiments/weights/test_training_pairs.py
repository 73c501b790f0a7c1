import dataclasses

import numpy as np
import pytest
import torch

from experiments.weights.cameras import Camera, draw_camera
from experiments.weights.textures import draw_texture_pair, random_field
from experiments.weights.training_pairs import draw_batch, load_scenes, load_textures, texture_pairs

PLAIN = Camera(inverted=False, gamma=1, black=0, gain=1, blur=0, noise=0, grain=0, pattern=0, quality=0, equalised=0)
PICTURE = np.linspace(0, 1, 64 * 80, dtype=np.float32).reshape(64, 80)


def see(**changes: float) -> np.ndarray:
    return dataclasses.replace(PLAIN, **changes).see(PICTURE, np.random.default_rng(0))


def test_a_plain_camera_stretches_the_tones() -> None:
    assert see() == pytest.approx(PICTURE, abs=0.06)


def test_every_setting_of_a_camera_does_what_it_says() -> None:
    assert see(inverted=True) == pytest.approx(1 - PICTURE, abs=0.06)
    assert see(gamma=2).mean() < see().mean() < see(gamma=0.5).mean()
    assert see(black=0.3).min() == pytest.approx(0.3, abs=0.01)
    assert np.ptp(see(gain=0.2)) == pytest.approx(0.2, abs=0.02)
    for change in ({"noise": 0.02}, {"pattern": 0.02}, {"quality": 40}, {"equalised": 1.0}, {"blur": 2.0}):
        assert not np.array_equal(see(**change), see()), change


def test_cameras_give_levels() -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        seen = draw_camera(rng, infrared=number % 2 == 0).see(PICTURE, rng)
        assert seen.dtype == np.float32
        assert np.array_equal(np.round(seen * 255), (seen * 255).round(3))
        assert 0 <= seen.min() <= seen.max() <= 1


def test_a_field_falls_off_as_it_is_asked_to() -> None:
    smooth, rough = (random_field(np.random.default_rng(1), 64, 96, exponent) for exponent in (2.0, 0.5))
    assert smooth.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(smooth)).mean() < 0.3 * np.abs(np.diff(rough)).mean()


def test_texture_pairs_share_some_structure_and_differ() -> None:
    correlations = []
    for seed in range(12):
        ir, vis = draw_texture_pair(np.random.default_rng(seed), 96, 128)
        assert ir.shape == vis.shape == (96, 128)
        assert ir.dtype == vis.dtype == np.float32
        edges = [np.abs(np.diff(picture, axis=0)).ravel() for picture in (ir, vis)]
        correlations.append(np.corrcoef(*edges)[0, 1])
    assert 0.1 < np.mean(correlations) < 0.9


def test_batches_are_seeded_and_in_range() -> None:
    scenes, textures = load_scenes(2, 96, 112, 0), load_textures(2, 96, 112, 0)
    first, second = (draw_batch(scenes, textures, (48, 72), 8, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (2, 8, 1, 48, 72)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert 0 <= first.min() <= first.max() <= 1


def test_texture_pairs_are_image_pairs() -> None:
    first, second = texture_pairs(2, 64, 80, 3)
    assert first.ir.shape == (1, 64, 80)
    assert not torch.equal(first.ir, second.ir)
    assert torch.equal(first.vis[0], first.vis[2])
