"""The measurement finds pairs again, and tells them from pairs of different scenes."""

from pathlib import Path

import numpy as np
import pytest

from experiments.measurements.alignment_accuracy import draw_homography, main


def test_motions_stay_small() -> None:
    for seed in range(20):
        motion = draw_homography(np.random.default_rng(seed), 240, 320)
        x, y, w = motion @ [160, 120, 1]
        assert np.hypot(x / w - 160, y / w - 120) < 0.2 * 320


@pytest.mark.slow
def test_the_command(reference_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--data", str(reference_dir / "data" / "mini"), "--pairs", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    numbers = [float(line.split("|")[2]) for line in lines]
    assert numbers[0] == 12
    assert numbers[1] >= 6
    assert numbers[2] < 2
    assert numbers[5] == 0
