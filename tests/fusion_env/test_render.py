from collections.abc import Callable

import numpy as np

from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.render import draw_round
from fusion_env.task import build_task


def test_tiles_show_what_they_are_called(tiny_config: Callable[..., DistillConfig]) -> None:
    task = build_task(tiny_config())

    def student(ir, vis):
        return 1 - vis

    plain = draw_round(task.scored[0], student, Degradation(), ["a line"])
    degraded = draw_round(task.scored[0], student, Degradation(noise_std=0.1), ["a line"])
    tiles, changed = (np.split(p[20:], 6, axis=1) for p in (plain, degraded))
    visible, shown_degraded, drawn = (tile.astype(int) for tile in (tiles[1], tiles[2], tiles[4]))
    assert np.array_equal(visible, shown_degraded)  # nothing degraded yet
    assert np.abs(255 - visible - drawn).max() <= 1
    assert not np.array_equal(changed[2], changed[1])
    assert np.array_equal(tiles[0], changed[0])
    assert tiles[5].any()  # the text
