"""Periodic patterns are found, and only they."""

import numpy as np
import pytest

from experiments.weights.changes import add_pattern
from experiments.weights.spectrum import PERIODS, pattern_amplitudes
from fusion_env.data import ProceduralScenes, luma_levels
from fusion_env.data.scene_seeds import scene_seed


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    source = ProceduralScenes(4, 100, 132, scene_seed("embedded check"))
    return [luma_levels(source.load(index).vis)[0].numpy() / 255 for index in range(4)]


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("kind", ["checkerboard", "rows", "columns"])
def test_a_faint_pattern_is_found(scenes: list[np.ndarray], kind: str, period: int) -> None:
    height = 0.02
    plain = [0.1 + 0.8 * scene for scene in scenes]
    before = pattern_amplitudes(plain)[period]
    after = pattern_amplitudes([add_pattern(scene, kind, period, height) for scene in plain])[period]
    assert before < 0.4 * after
    assert 0.5 * height < after < 2.5 * height  # a square wave's fundamental is up to 16 / pi^2 as high


def test_the_amplitude_of_a_wave() -> None:
    rows, columns = np.indices((96, 128))
    for down, across in [(0, 0.125), (0.25, 0), (0.5, 0.5), (0.375, 0.25)]:
        wave = 0.5 + 0.02 * np.cos(2 * np.pi * (down * rows + across * columns))
        assert max(pattern_amplitudes([wave]).values()) == pytest.approx(0.02, rel=0.01)


def test_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 64"):
        pattern_amplitudes([np.zeros((63, 200))])
