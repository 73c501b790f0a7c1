"""Pictures side by side: their text can be read in print."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.evaluation import side_by_side


@pytest.mark.parametrize("columns", [2, 10])
def test_text_can_be_read_where_the_picture_is_as_wide_as_a_page(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(side_by_side, "save_figure", lambda figure, path, dpi: drawn.append(figure))
    grey = np.zeros((60, 80), np.uint8)
    side_by_side.draw_pictures(["method"] * columns, {"row": [grey] * columns}, tmp_path / "picture.png")
    width = drawn[0].get_figwidth()
    assert len(drawn[0].texts) == columns + 1
    for text in drawn[0].texts:
        assert text.get_fontsize() * min(1, 7 / width) >= 5.5
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y1 <= drawn[0].bbox.y1  # noqa: PT018
