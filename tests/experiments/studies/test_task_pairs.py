from pathlib import Path

import cv2
import pytest

from experiments.studies.task_pairs import main


@pytest.mark.slow
def test_a_row_for_each_task(tmp_path: Path) -> None:
    heights = []
    for names in (["few"], ["few", "camera"]):
        out = tmp_path / f"{len(names)}.png"
        assert main(["--tasks", *names, "--preset", "tiny", "--out", str(out)]) == 0
        heights.append(cv2.imread(str(out)).shape[0])
    assert heights[1] > 1.5 * heights[0]
