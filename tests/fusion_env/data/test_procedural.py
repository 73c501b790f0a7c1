import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from fusion_env.data import PairSource, ProceduralScenes, luma_levels
from fusion_env.data.procedural import CONDITIONS, SCENE_VERSION, render_scene
from fusion_env.errors import FusionEnvError, UnknownNameError

SEEDS = range(12)


def luma(scene) -> np.ndarray:
    return luma_levels(scene.vis)[0].numpy().astype(float)


def edges(image: np.ndarray) -> np.ndarray:
    dy, dx = np.gradient(image)
    return np.hypot(dx, dy)


def test_same_seed_same_bytes_other_seed_others() -> None:
    first, again, other = render_scene(3, 64, 80), render_scene(3, 64, 80), render_scene(4, 64, 80)
    assert torch.equal(first.ir, again.ir)
    assert torch.equal(first.vis, again.vis)
    assert first.boxes == again.boxes
    assert not torch.equal(first.ir, other.ir)


@pytest.mark.slow
def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from fusion_env.data.procedural import render_scene; s = render_scene(5, 64, 80);"
        "print(hashlib.sha256(s.ir.numpy().tobytes() + s.vis.numpy().tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300).stdout
    scene = render_scene(5, 64, 80)
    assert other.strip() == hashlib.sha256(scene.ir.numpy().tobytes() + scene.vis.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 300), (200, 70), (161, 211)])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_any_size(height: int, width: int, condition: str) -> None:
    scene = render_scene(1, height, width, condition)
    assert scene.ir.shape == (1, height, width)
    assert scene.vis.shape == (3, height, width)
    assert scene.ir.dtype == scene.vis.dtype == torch.uint8
    assert scene.condition == condition
    assert scene.ir.float().std() > 5


def test_pairs_are_registered() -> None:
    # Edges of both pictures coincide: shifting one of them against the other lowers the correlation of edge strength.
    at_home, shifted = [], []
    for seed in SEEDS:
        scene = render_scene(seed, 128, 160, "day")
        vis, ir = edges(luma(scene))[8:-8, 8:-8], edges(scene.ir[0].numpy().astype(float))
        at_home.append(np.corrcoef(vis.ravel(), ir[8:-8, 8:-8].ravel())[0, 1])
        shifted.append(
            max(
                np.corrcoef(vis.ravel(), ir[8 + dy : ir.shape[0] - 8 + dy, 8 + dx : ir.shape[1] - 8 + dx].ravel())[0, 1]
                for dy, dx in ((4, 0), (-4, 0), (0, 4), (0, -4))
            )
        )
    assert np.mean(at_home) > 0.25
    assert np.mean(at_home) > np.mean(shifted) + 0.1


def test_night_is_darker_than_day_in_the_visible() -> None:
    day, night = (np.mean([luma(render_scene(s, 96, 128, c)).mean() for s in SEEDS]) for c in ("day", "night"))
    assert night < 0.6 * day


def test_fog_takes_contrast_from_the_visible_more_than_from_the_infrared() -> None:
    def contrast(condition: str) -> tuple[float, float]:
        scenes = [render_scene(s, 96, 128, condition) for s in SEEDS]
        vis = np.mean([edges(luma(s)).mean() for s in scenes])
        return vis, np.mean([edges(s.ir[0].numpy().astype(float)).mean() for s in scenes])

    day, fog = contrast("day"), contrast("fog")
    assert fog[0] / day[0] < 0.8 * fog[1] / day[1]


def test_glare_saturates_the_visible_only() -> None:
    def share(condition: str) -> float:
        return float(np.mean([(luma(render_scene(s, 96, 128, condition)) > 250).mean() for s in SEEDS]))

    assert share("glare") > share("day") + 0.005


def test_boxes_lie_inside_and_people_glow_at_night() -> None:
    warmer, people = 0, 0
    for seed in range(40):
        scene = render_scene(seed, 128, 160, "night")
        ir = scene.ir[0].float()
        for box in scene.boxes:
            assert 0 <= box.x0 < box.x1 <= 160
            assert 0 <= box.y0 < box.y1 <= 128
            assert box.label in ("person", "vehicle")
            if box.label == "person":
                people += 1
                warmer += bool(ir[box.y0 : box.y1, box.x0 : box.x1].mean() > ir.mean())
    assert people > 20
    assert warmer > 0.85 * people


def test_people_at_night_are_warmer_than_what_surrounds_them() -> None:
    differences = []
    for seed in range(40):
        scene = render_scene(seed, 128, 160, "night")
        ir = scene.ir[0].float()
        for box in (b for b in scene.boxes if b.label == "person" and b.y1 - b.y0 >= 12):
            body = ir[box.y0 : box.y1, box.x0 : box.x1]
            around = ir[max(box.y0 - 4, 0) : box.y1 + 4, max(box.x0 - 4, 0) : box.x1 + 4]
            ring = (around.sum() - body.sum()) / max(around.numel() - body.numel(), 1)
            differences.append(float(body.mean() - ring))
    assert len(differences) > 15
    assert np.median(differences) > 15
    assert np.mean(np.array(differences) > 0) > 0.8


@pytest.mark.parametrize(
    ("seed", "condition", "vis", "ir", "objects"),
    [
        (11, "day", [176, 172, 133, 135, 146, 138], [12, 20, 58, 108, 112, 90], 2),
        (12, "night", [53, 48, 26, 28, 38, 27], [157, 112, 128, 159, 173, 190], 8),
        (13, "fog", [165, 168, 161, 124, 105, 105], [72, 71, 105, 144, 139, 165], 3),
        (14, "glare", [68, 74, 75, 60, 69, 54], [165, 51, 30, 138, 135, 131], 5),
    ],
)
def test_changed_rendering_needs_a_new_version(
    seed: int, condition: str, vis: list[int], ir: list[int], objects: int
) -> None:
    # Means over a 2 x 3 grid, made with SCENE_VERSION 1: coarse enough for every OpenCV, fine enough to see a change.
    assert SCENE_VERSION == 1, "replace the numbers by those of the new version"
    scene = render_scene(seed, 96, 128, condition)
    for image, expected in ((scene.vis, vis), (scene.ir, ir)):
        means = torch.nn.functional.adaptive_avg_pool2d(image.float().mean(0, keepdim=True), (2, 3)).flatten()
        np.testing.assert_allclose(means, expected, atol=1.0, err_msg="the scenes changed: raise SCENE_VERSION")
    assert len(scene.boxes) == objects


def test_source() -> None:
    source = ProceduralScenes(3, 64, 80, 7)
    assert isinstance(source, PairSource)
    assert (len(source), source.names[1], source.sizes[2]) == (3, "scene_00001", (64, 80))
    assert torch.equal(source.load(1).ir, ProceduralScenes(5, 64, 80, 7).load(1).ir)
    assert torch.equal(source.load(1).ir, source.scene(1).ir)


def test_scenes_of_one_condition() -> None:
    scenes = ProceduralScenes(3, 64, 80, 7, "fog")
    assert {scenes.scene(index).condition for index in range(3)} == {"fog"}
    with pytest.raises(UnknownNameError, match="Did you mean 'night'"):
        ProceduralScenes(3, 64, 80, 7, "nigth")


def test_fingerprint_depends_on_every_parameter() -> None:
    sources: list[tuple] = [(3, 64, 80, 7), (4, 64, 80, 7), (3, 65, 80, 7), (3, 64, 81, 7), (3, 64, 80, 8)]
    sources += [(3, 64, 80, 7, "fog"), (3, 64, 80, 7, "night")]
    assert len({ProceduralScenes(*parameters).fingerprint() for parameters in sources}) == 7
    assert ProceduralScenes(3, 64, 80, 7).fingerprint() == ProceduralScenes(3, 64, 80, 7).fingerprint()


def test_errors() -> None:
    with pytest.raises(FusionEnvError, match="height must be at least 64"):
        render_scene(0, 63, 80)
    with pytest.raises(UnknownNameError, match="Did you mean 'night'"):
        render_scene(0, 64, 80, "nigt")
    with pytest.raises(FusionEnvError, match="width must be at least 64"):
        ProceduralScenes(1, 64, 63, 0)
    with pytest.raises(FusionEnvError, match="count"):
        ProceduralScenes(0, 64, 80, 0)
    with pytest.raises(FusionEnvError, match="seed"):
        render_scene(-1, 64, 80)
    with pytest.raises(IndexError, match=r"0\.\.2"):
        ProceduralScenes(3, 64, 80, 0).load(3)
