from collections.abc import Callable

import numpy as np

from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.render import draw_round
from fusion_env.task import build_task


def cells(picture: np.ndarray) -> list[np.ndarray]:
    """Cut a picture into its six cells, row by row, without the captions."""
    rows = picture[60:260], picture[280:480]
    return [row[:, left : left + 200].astype(int) for row in rows for left in (10, 220, 430)]


def test_tiles_show_what_they_are_called(tiny_config: Callable[..., DistillConfig]) -> None:
    task = build_task(tiny_config())

    def student(ir, vis):
        return 1 - vis

    plain = draw_round(task.scored[0], student, Degradation(), ["a title", "a line"])
    degraded = draw_round(
        task.scored[0], student, Degradation(noise_std=0.1), ["a title", "a line"], bars={"noise": 1.0}, done=0.5
    )
    assert plain.shape == degraded.shape == (480, 640, 3)  # encoders want even sides, a film one size
    tiles, changed = cells(plain), cells(degraded)
    infrared, visible, shown_degraded, _, drawn, numbers = tiles
    assert np.array_equal(visible, shown_degraded)  # nothing degraded yet
    assert np.abs(255 - visible - drawn).max() <= 1
    assert not np.array_equal(changed[2], changed[1])
    assert np.array_equal(infrared, changed[0])
    assert plain[:34].any()  # the title
    assert plain[40:60, 430:].any()  # the text
    assert not np.array_equal(numbers, changed[5])  # the bars
    assert np.array_equal(plain[35, 500], degraded[35, 500])
    assert not np.array_equal(plain[35, 100], degraded[35, 100])  # how far it is
