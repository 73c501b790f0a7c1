from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env import crop_bank, teachers
from fusion_env.config import TeacherSettings
from fusion_env.crop_bank import CropPlan, bank_key, build_bank, plan_crops
from fusion_env.data import ImagePair, ProceduralScenes, luma_levels, no_progress, write_png
from fusion_env.errors import DataError, TeacherError
from fusion_env.teachers.ldfusion import LDFusion


@pytest.fixture(scope="module")
def scenes() -> ProceduralScenes:
    return ProceduralScenes(4, 64, 80, 3)


def plan(source: ProceduralScenes, count: int = 6, size: int = 48, seed: int = 0, flip: bool = True) -> CropPlan:
    return plan_crops(source, range(len(source)), count=count, size=size, flip=flip, rng=np.random.default_rng(seed))


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 40), size=st.integers(32, 64), seed=st.integers(0, 99), images=st.integers(1, 4))
def test_crops_lie_inside_and_images_take_turns(count: int, size: int, seed: int, images: int) -> None:
    source = ProceduralScenes(4, 64, 80, 3)
    made = plan_crops(source, range(images), count=count, size=size, flip=True, rng=np.random.default_rng(seed))
    assert (made.top >= 0).all()
    assert (made.top + size <= 64).all()
    assert (made.left >= 0).all()
    assert (made.left + size <= 80).all()
    visits = np.bincount(made.image, minlength=images)
    assert visits.max() - visits.min() <= 1


def test_small_images_are_all_named(scenes: ProceduralScenes) -> None:
    with pytest.raises(DataError, match=r"scene_00000 \(64x80\).*scene_00003"):
        plan(scenes, size=65)


def test_a_crop_is_the_image_cut_and_flipped(scenes: ProceduralScenes, tmp_path: Path) -> None:
    made = plan(scenes)
    assert made.flip.any()
    assert not made.flip.all()
    bank = build_bank(scenes, made, teachers.load("laplacian"), TeacherSettings(), folder=tmp_path, device="cpu")
    for n in range(len(bank)):
        pair = scenes.load(int(made.image[n]))
        window = (slice(made.top[n], made.top[n] + 48), slice(made.left[n], made.left[n] + 48))
        for stored, whole in ((bank.ir[n, 0], pair.ir[0]), (bank.vis[n, 0], luma_levels(pair.vis)[0])):
            expected = whole[window].flip(-1) if made.flip[n] else whole[window]
            assert torch.equal(stored, expected)


@pytest.mark.parametrize("context", ["crop", "image"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_teacher_without_numbers_is_refused_before_training(
    scenes: ProceduralScenes, tmp_path: Path, context: str, value: float
) -> None:
    teacher = teachers.load("laplacian")
    teacher.fuse_luma = lambda ir, vis: torch.full_like(ir, value)
    with pytest.raises(TeacherError, match=r"pair 'scene_0000\d': teacher 'laplacian' returned NaN or infinite"):
        build_bank(
            scenes, plan(scenes), teacher, TeacherSettings(teacher_context=context), folder=tmp_path, device="cpu"
        )
    assert not list(tmp_path.rglob("*.safetensors"))


def test_both_contexts_of_ldfusion(scenes: ProceduralScenes, tmp_path: Path) -> None:
    # The network normalises over its whole input: a crop of the fused image is not the fused crop.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = LDFusion().eval()
    made = plan(scenes, count=4, flip=False)
    banks = {
        context: build_bank(
            scenes, made, teacher, TeacherSettings(teacher_context=context), folder=tmp_path, device="cpu"
        )
        for context in ("crop", "image")
    }
    for n in range(4):
        pair: ImagePair = scenes.load(int(made.image[n]))
        with torch.inference_mode():
            whole = teacher.fuse_pair(pair)
            alone = teacher(*(made.cut(n, image)[None].float() / 255 for image in (pair.ir, pair.vis)))[0]
        assert torch.allclose(banks["image"].target[n].float(), made.cut(n, whole), atol=1e-3)
        assert torch.allclose(banks["crop"].target[n].float(), alone, atol=1e-3)
    assert (banks["crop"].target.float() - banks["image"].target.float()).abs().mean() > 0.01


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_the_teacher_is_given_crops_of_several_images_and_no_more_than_allowed(
    at_once: int, scenes: ProceduralScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crop_bank, "_PIXELS_AT_ONCE", at_once * 48**2)
    teacher, given = teachers.load("laplacian"), []

    def fuse(ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        given.append(len(ir))
        return (ir + vis) / 2

    teacher.fuse_luma = fuse
    bank = build_bank(scenes, plan(scenes), teacher, TeacherSettings(), folder=tmp_path, device="cpu")
    assert given == {1: [1] * 6, 4: [4, 2], 100: [6]}[at_once]
    assert torch.allclose(bank.target.float() * 255, (bank.ir.float() + bank.vis.float()) / 2, atol=0.6)


def test_crops_that_wait_do_not_hold_their_images(scenes: ProceduralScenes) -> None:
    crops = list(crop_bank._cut(scenes, plan(scenes), None, no_progress, ""))
    assert all(crop.ir.untyped_storage().nbytes() == 48**2 for crop in crops)
    assert all(crop.vis.untyped_storage().nbytes() == 3 * 48**2 for crop in crops)


def test_of_several_pairs_the_one_at_fault_is_named(scenes: ProceduralScenes, tmp_path: Path) -> None:
    teacher, dark = teachers.load("laplacian"), scenes.load(2).ir.float() / 255

    def fuse(ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        of_it = torch.stack([(one.unsqueeze(0) == dark[..., :48, :48]).all() for one in ir])
        return torch.where(of_it.view(-1, 1, 1, 1), torch.nan, ir)

    teacher.fuse_luma = fuse
    zeros = np.zeros(4, int)
    made = CropPlan(np.array([3, 0, 2, 1]), zeros, zeros, zeros.astype(bool), 48)
    with pytest.raises(TeacherError, match="pair 'scene_00002': teacher 'laplacian' returned NaN or infinite"):
        build_bank(scenes, made, teacher, TeacherSettings(), folder=tmp_path, device="cpu")


def test_the_teacher_runs_once(scenes: ProceduralScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teachers.load("laplacian")
    first = build_bank(scenes, plan(scenes), teacher, TeacherSettings(), folder=tmp_path, device="cpu")
    monkeypatch.setattr(type(teacher), "forward", None)
    second = build_bank(scenes, plan(scenes), teacher, TeacherSettings(), folder=tmp_path, device="cpu")
    assert torch.equal(first.target, second.target)


def test_the_key_depends_on_everything(scenes: ProceduralScenes) -> None:
    laplacian = teachers.load("laplacian")
    keys = {
        bank_key(scenes, plan(scenes), laplacian, TeacherSettings()),
        bank_key(scenes, plan(scenes), laplacian, TeacherSettings(teacher_context="image")),
        bank_key(scenes, plan(scenes, seed=1), laplacian, TeacherSettings()),
        bank_key(scenes, plan(scenes, size=50), laplacian, TeacherSettings()),
        bank_key(ProceduralScenes(4, 64, 80, 4), plan(scenes), laplacian, TeacherSettings()),
        bank_key(scenes, plan(scenes), LDFusion(), TeacherSettings()),
        bank_key(scenes, plan(scenes), laplacian, TeacherSettings(), chroma=True),
    }
    assert len(keys) == 7


def test_fused_images_of_a_folder(scenes: ProceduralScenes, tmp_path: Path) -> None:
    fused = {name: np.random.default_rng(i).integers(0, 256, (64, 80)) for i, name in enumerate(scenes.names)}
    for name, levels in fused.items():
        write_png(tmp_path / "fused" / f"{name}.png", levels.astype(np.uint8))
    teacher = teachers.load("folder", tmp_path / "fused")
    made = plan(scenes)
    bank = build_bank(scenes, made, teacher, TeacherSettings(), folder=tmp_path, device="cpu")
    for n in range(len(bank)):
        whole = torch.from_numpy(fused[scenes.names[made.image[n]]])[None] / 255
        assert torch.allclose(bank.target[n].float(), made.cut(n, whole), atol=1e-3)


def test_batch_is_in_0_to_1(scenes: ProceduralScenes, tmp_path: Path) -> None:
    bank = build_bank(
        scenes, plan(scenes), teachers.load("laplacian"), TeacherSettings(), folder=tmp_path, device="cpu"
    )
    ir, vis, target = bank.batch(torch.tensor([2, 0]))
    assert ir.shape == vis.shape == target.shape == (2, 1, 48, 48)
    assert torch.equal(ir, bank.ir[[2, 0]].float() / 255)
    assert 0 <= float(target.min()) <= float(target.max()) <= 1
