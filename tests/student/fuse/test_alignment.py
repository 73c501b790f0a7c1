"""An infrared image that was turned, scaled and shifted is found again; another scene's is refused."""

import cv2
import numpy as np
import pytest

from fusion_env.data import ProceduralScenes
from student.fuse.alignment import AlignmentError, align

HEIGHT, WIDTH = 360, 480


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    pair = ProceduralScenes(1, HEIGHT, WIDTH, number).load(0)
    return pair.ir[0].numpy(), np.ascontiguousarray(pair.vis.permute(1, 2, 0).numpy())


def move(scale: float) -> np.ndarray:
    """Map visible pixels to those of an infrared image that is turned, shifted and of another size."""
    turned = np.vstack([cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 2.5, 1.04), [0, 0, 1]])
    turned[:2, 2] += (7, -9)
    return np.diag([scale, scale, 1]) @ turned


@pytest.mark.parametrize("scale", [1, 0.75])
def test_found_again(scale: float) -> None:
    ir, vis = scene(3)
    moved = cv2.warpPerspective(ir, move(scale), (round(WIDTH * scale), round(HEIGHT * scale)), flags=cv2.INTER_AREA)
    found = align(ir=moved, vis=vis)
    points = np.array([[[x, y] for x in (50, 240, 430) for y in (40, 180, 320)]], np.float32)
    back = cv2.perspectiveTransform(cv2.perspectiveTransform(points, found.homography), np.linalg.inv(move(scale)))
    assert np.linalg.norm(back - points, axis=2).mean() < 0.01 * WIDTH
    assert "patches agree within" in found.describe()
    aligned = found.apply(ir=moved, vis=vis)
    assert (aligned.shape, aligned.dtype) == (ir.shape, np.uint8)
    inner = np.s_[60:-60, 60:-60]
    before = np.corrcoef(cv2.resize(moved, (WIDTH, HEIGHT))[inner].ravel(), ir[inner].ravel())[0, 1]
    assert np.corrcoef(aligned[inner].ravel(), ir[inner].ravel())[0, 1] > max(0.9, before)


def test_a_picture_too_small_to_compare() -> None:
    ir, vis = scene(3)
    with pytest.raises(
        AlignmentError, match=r"160 x 120 visible pixels have room for 8 patches, needed are 24\. Enlarge"
    ):
        align(ir=ir, vis=cv2.resize(vis, (160, 120)))


def test_another_scene_is_refused() -> None:
    with pytest.raises(AlignmentError, match=r"no trustworthy alignment: \d+ of \d+ patches .* same scene"):
        align(ir=scene(3)[0], vis=scene(4)[1])
