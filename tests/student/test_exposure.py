"""The student cannot know brightness and contrast of its inputs; what gives them back is the same on every path."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from student.command_line import main
from student.export import export_program
from student.exposure import with_exposure_of
from student.fuse import Fuser, load
from student.fuse.tiling import fuse_tiled
from student.network import FusionStudent
from student.on_cpu import fuse_on_cpu
from student.origin import open_student
from student.weights import load_student, metadata_of, save_state


def pair(seed: int = 0, height: int = 70, width: int = 83) -> tuple[Tensor, Tensor]:
    ir, vis = torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    return 0.2 + 0.3 * ir.square(), 0.5 + 0.4 * vis


@pytest.fixture(scope="module")
def student() -> FusionStudent:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return FusionStudent(2).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exposing(student: FusionStudent) -> FusionStudent:
    own = FusionStudent(2).eval().requires_grad_(False)
    own.load_state_dict(student.state_dict())
    own.exposure_of_sources = True
    return own


@given(gain=st.floats(0.5, 1.0), level=st.floats(0.0, 0.1), of_ir=st.booleans())
def test_as_published_it_cannot_know_them(student: FusionStudent, gain: float, level: float, of_ir: bool) -> None:
    ir, vis = pair()
    expected = student(ir=ir, vis=vis)
    ir, vis = (gain * ir + level, vis) if of_ir else (ir, gain * vis + level)
    assert (student(ir=ir, vis=vis) - expected).abs().max() < 0.02  # what the epsilon of a normalisation leaves


def test_they_are_those_of_the_sources() -> None:
    ir, vis = (torch.cat(images) for images in zip(pair(0, 300, 400), pair(1, 300, 400), strict=True))
    fused = torch.rand(ir.shape, generator=torch.Generator().manual_seed(5)) * 0.1 + 0.7
    exposed = with_exposure_of(fused, ir=ir, vis=vis)
    for one, of_ir, of_vis, before in zip(exposed, ir, vis, fused, strict=True):
        assert one.mean() == pytest.approx(float((of_ir + of_vis).mean() / 2), abs=0.002)
        extremes = torch.maximum(of_ir, of_vis), torch.minimum(of_ir, of_vis)
        assert one.std() == pytest.approx(float(max(image.std() for image in extremes)), rel=0.002)
        assert (one.flatten()[before.flatten().argsort()].diff() > -1e-6).all()  # the order of greys stays
    flat = with_exposure_of(torch.full_like(ir, 0.3), ir=ir, vis=vis)
    assert flat.std(dim=(2, 3)).max() < 1e-5
    assert with_exposure_of(fused.half(), ir=ir.half(), vis=vis.half()).dtype == torch.float16


def test_what_is_small_or_opposite_is_not_lost() -> None:
    dot = torch.zeros(1, 1, 150, 200)
    dot[..., 70:72, 70:72] = 1
    shown = with_exposure_of(0.2 + 0.6 * dot, ir=dot, vis=dot / 2)
    assert shown[dot == 1].min() > shown[dot == 0].max() + 0.05
    half = (torch.rand(1, 1, 150, 200, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert with_exposure_of(0.4 + 0.2 * half, ir=half, vis=1 - half).std() > 0.2


def test_an_image_moved_by_a_pixel_looks_the_same() -> None:
    spot = torch.zeros(1, 1, 90, 120)
    spot[..., 30:32, 40:42] = 0.5
    grid = torch.zeros(1, 1, 90, 120)
    grid[..., ::3, ::3] = 1
    for ir, vis, fused in (
        (spot, spot, 0.3 + 0.8 * spot),
        (spot, 0 * spot + 0.1, 0.2 + spot),
        (grid, grid, 0.3 + 0.4 * grid),
    ):
        expected = with_exposure_of(fused, ir=ir, vis=vis)
        assert expected.mean() == pytest.approx(float((ir + vis).mean() / 2), abs=0.01)
        for shift in ((0, 1), (1, 0), (2, 1)):
            moved = [image.roll(shift, (2, 3)) for image in (fused, ir, vis)]
            shown = with_exposure_of(moved[0], ir=moved[1], vis=moved[2])
            torch.testing.assert_close(shown, expected.roll(shift, (2, 3)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("deviation", [2e-5, 1e-4, 1e-3])
def test_faint_contrast_of_sixteen_bits_is_not_lost(deviation: float) -> None:
    noise = torch.randn(2, 1, 1, 100, 120, generator=torch.Generator().manual_seed(0))
    ir, vis = 0.4 + deviation * noise
    fused = 0.5 + 0.1 * noise.mean(0)
    shown = with_exposure_of(fused, ir=ir, vis=vis)
    assert shown.std() == pytest.approx(float(torch.maximum(ir, vis).std()), rel=0.02)


@pytest.mark.parametrize("side", [1, 2, 3, 20])
@pytest.mark.parametrize("of_both", [True, False])
def test_a_white_spot_on_black_stays_one(side: int, of_both: bool) -> None:
    black = torch.zeros(1, 1, 256, 256)
    spot = black.clone()
    spot[..., 50 : 50 + side, 60 : 60 + side] = 1
    vis = spot if of_both else black
    with torch.no_grad():
        shown = open_student(None)[0](ir=spot, vis=vis)
    assert shown.mean() == pytest.approx(float((spot + vis).mean() / 2), abs=0.004)
    # So few pixels are not met exactly in a few steps, but a step too long would make it twenty times as much.
    assert 0.15 < float(shown.std() / spot.std()) < 3


def test_flat_images_have_gradients() -> None:
    flat = torch.full((1, 1, 40, 40), 0.5, requires_grad=True)
    ir, vis = pair(0, 40, 40)
    with_exposure_of(flat, ir=ir, vis=vis).sum().backward()
    assert flat.grad.isfinite().all()


@torch.no_grad()
def test_every_path_gives_the_same(student: FusionStudent, exposing: FusionStudent, tmp_path: Path) -> None:
    ir, vis = pair()
    expected = exposing(ir=ir, vis=vis)
    assert expected.mean() == pytest.approx(float((ir + vis).mean() / 2), abs=0.02)
    assert (expected - student(ir=ir, vis=vis)).abs().max() > 0.03
    torch.testing.assert_close(fuse_on_cpu(exposing, ir=ir, vis=vis), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(fuse_tiled(exposing, ir=ir, vis=vis, tile=64), expected, rtol=0, atol=1e-4)
    for tile in (None, 64):
        fused = Fuser(exposing, device="cpu", tile=tile)(ir=ir, vis=vis)
        torch.testing.assert_close(fused, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_exported_files_give_the_same(exposing: FusionStudent, tmp_path: Path) -> None:
    export_program(exposing, tmp_path / "student.pt2")
    ir, vis = pair()
    fused = torch.export.load(tmp_path / "student.pt2").module()(ir, vis.expand(-1, 3, -1, -1))
    torch.testing.assert_close(fused, exposing(ir=ir, vis=vis), rtol=0, atol=1e-4)


def test_who_fuses_may_choose(student: FusionStudent, exposing: FusionStudent, tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    save_state(student.state_dict(), path)
    ir, vis = (image[0, 0].numpy() for image in pair())
    for exposure, of in ((None, student), ("network", student), ("sources", exposing)):
        fuser = load(path, device="cpu", exposure=exposure)
        assert ("brightness and contrast of the sources" in fuser.describe()) == (of is exposing)
        assert (fuser(ir=ir, vis=vis) == Fuser(of, device="cpu")(ir=ir, vis=vis)).all()
    with pytest.raises(ValueError, match="exposure must be one of 'network', 'sources', or None. Got 'mine'"):
        load(path, exposure="mine")


@pytest.mark.parametrize("exposure", ["network", "sources"])
def test_commands_take_the_choice(student: FusionStudent, tmp_path: Path, exposure: str) -> None:
    pytest.importorskip("huggingface_hub")
    save_state(student.state_dict(), tmp_path / "own.safetensors")
    command = ["export", str(tmp_path / "own.safetensors"), "-o", str(tmp_path / "hub"), "--exposure", exposure]
    assert main(command) == 0
    assert open_student(tmp_path / "hub")[0].exposure_of_sources == (exposure == "sources")
    ir, vis = ((image[0, 0] * 255).round().to(torch.uint8).numpy() for image in pair())
    for name, image in (("ir", ir), ("vis", vis)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    command = ["fuse", str(tmp_path / "ir.png"), str(tmp_path / "vis.png"), "-o", str(tmp_path / "fused.png")]
    assert main([*command, "--weights", str(tmp_path / "own.safetensors"), "--exposure", exposure]) == 0
    fused = np.asarray(Image.open(tmp_path / "fused.png"))
    assert (abs(fused.mean() - (ir.mean() + vis.mean()) / 2) < 4) == (exposure == "sources")


def test_the_file_says_which_it_is(student: FusionStudent, exposing: FusionStudent, tmp_path: Path) -> None:
    for one in (student, exposing):
        path = tmp_path / "student.safetensors"
        save_state(one.state_dict(), path, metadata=metadata_of(one))
        assert load_student(path).exposure_of_sources == one.exposure_of_sources
    torch.save(student.state_dict(), tmp_path / "final.pt")
    assert not load_student(tmp_path / "final.pt").exposure_of_sources
