"""Rough cameras: what is seen of a pair."""

import numpy as np
import torch

from fusion_env.data.camera import Camera, draw_camera, through_cameras
from fusion_env.data.pairs import ImagePair


def pair(name: str = "a") -> ImagePair:
    rng = np.random.default_rng(0)
    levels = torch.from_numpy(rng.integers(0, 256, (4, 20, 30)).astype(np.uint8))
    return ImagePair(name, levels[:1], levels[1:])


def test_name_and_seed_decide() -> None:
    first, again = through_cameras(pair(), 3), through_cameras(pair(), 3)
    assert torch.equal(first.ir, again.ir)
    assert torch.equal(first.vis, again.vis)
    for other in (through_cameras(pair(), 4), through_cameras(pair("b"), 3)):
        assert not torch.equal(first.ir, other.ir)
        assert not torch.equal(first.vis, other.vis)


def test_the_sensors_are_drawn_independently() -> None:
    grey = ImagePair("a", pair().ir, pair().ir.expand(3, -1, -1))
    seen = through_cameras(grey, 0)
    assert not torch.equal(seen.ir, seen.vis[:1])


def test_a_camera_without_faults_changes_nothing() -> None:
    perfect, levels = Camera(0.0, 1.0, 1.0, 0.0, 0.0), pair().vis
    assert torch.equal(perfect.see(levels, np.random.default_rng(0)), levels)


def test_every_fault_shows_as_what_it_is() -> None:
    levels = torch.full((1, 200, 200), 51, dtype=torch.uint8)  # 0.2
    levels[:, :, 100:] = 204

    def seen(*settings: float) -> torch.Tensor:
        return Camera(*settings).see(levels, np.random.default_rng(0)).float() / 255

    assert seen(2.0, 1, 1, 0, 0)[0, 100, 100].item() < 0.7  # the edge is soft
    assert seen(0, 0.5, 1, 0, 0)[0, 0, 0].item() == torch.tensor(26 / 255).item()  # 0.1
    assert seen(0, 1, 2.0, 0, 0)[0, 0, 0].item() == torch.tensor(10 / 255).item()  # 0.04
    noisy = seen(0, 1, 1, 0.05, 0)
    np.testing.assert_allclose([noisy[..., :100].std(), noisy[..., 100:].std()], [0.06, 0.09], rtol=0.05)
    columns = seen(0, 1, 1, 0, 0.02)[..., :100]
    assert abs(columns.std().item() - 0.02 * 2**0.5) < 0.004
    assert columns.mean(1).std() > 0.5 * columns.std()


def test_strengths_reach_beyond_the_actions() -> None:
    cameras = [draw_camera(np.random.default_rng(seed), infrared=bool(seed % 2)) for seed in range(200)]
    assert max(camera.blur_sigma_px for camera in cameras) > 2.5  # a kernel of 13 has 2.3
    assert min(camera.gain for camera in cameras) < 0.55
    assert {camera.pattern_std > 0 for camera in cameras[1::2]} == {True}
    assert {camera.pattern_std for camera in cameras[::2]} == {0.0}
