"""The deployable API and command line: colours kept, pairs complete, every failure named."""

import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from student.fuse import Interrupted, PairingError, fuse_files, fuse_images, main, pair_files
from student.fuse.writing import write_image
from student.network import FusionStudent
from student.sixteen_bit import Scale
from student.weights import save_state


class Infrared(nn.Module):
    """A student that returns the infrared image."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return ir


class Visible(nn.Module):
    """A student that returns the visible luma."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return vis


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def save(path: Path, *shape: int, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two pairs and weights."""
    for seed, name in enumerate(("a", "b")):
        save(tmp_path / "ir" / f"{name}.png", 24, 30, seed=seed)
        save(tmp_path / "vi" / f"{name}.bmp", 24, 30, 3, seed=seed + 10)
    save_state(FusionStudent(1).state_dict(), tmp_path / "student.safetensors")
    return tmp_path


def arguments(folder: Path) -> list[str]:
    names = {"--weights": "student.safetensors", "--ir": "ir", "--vi": "vi", "--out": "out"}
    return [part for option, name in names.items() for part in (option, str(folder / name))]


class TestFuseImages:
    def test_unchanged_luma_gives_the_picture_back(self) -> None:
        rgb = draw(2, 3, 16, 20)
        torch.testing.assert_close(fuse_images(Visible(), ir=draw(2, 1, 16, 20), vis=rgb), rgb, rtol=0, atol=1e-6)

    def test_luma_is_the_students_and_chroma_the_pictures(self) -> None:
        # Muted colours, so that nothing is clamped; values of BT.601 (JPEG) by hand for one pixel.
        rgb = torch.tensor([0.5, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
        fused = fuse_images(Infrared(), ir=torch.full((1, 1, 16, 16), 0.55), vis=rgb)
        luma, cb, cr = 0.4527, (0.6 - 0.4527) / 1.772, (0.5 - 0.4527) / 1.402
        assert luma == pytest.approx(0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.6)
        expected = [0.55 + 1.402 * cr, 0.55 - 0.344136 * cb - 0.714136 * cr, 0.55 + 1.772 * cb]
        torch.testing.assert_close(fused[0, :, 3, 4], torch.tensor(expected), rtol=0, atol=1e-5)

    def test_clamped(self) -> None:
        fused = fuse_images(Infrared(), ir=torch.ones(1, 1, 16, 16), vis=draw(1, 3, 16, 16))
        assert fused.max() == 1

    def test_grey_visible_image_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"vis must have shape \[B, 3, H, W\]. Got \(1, 1, 16, 16\)"):
            fuse_images(Visible(), ir=torch.zeros(1, 1, 16, 16), vis=torch.zeros(1, 1, 16, 16))


class TestFiles:
    def test_levels_survive(self, tmp_path: Path) -> None:
        save(tmp_path / "ir.png", 20, 17)
        pixels = save(tmp_path / "vi.png", 20, 17, 3)
        fuse_files(
            Visible(),
            ir_path=tmp_path / "ir.png",
            vis_path=tmp_path / "vi.png",
            out_path=tmp_path / "new" / "out.png",
        )
        assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "out.png")), pixels)

    def test_sizes_differ(self, tmp_path: Path) -> None:
        save(tmp_path / "ir.png", 20, 17)
        save(tmp_path / "vi.png", 20, 18, 3)
        with pytest.raises(ValueError, match=r"ir.png is \(20, 17\) and .*vi.png \(20, 18\)"):
            fuse_files(
                Visible(),
                ir_path=tmp_path / "ir.png",
                vis_path=tmp_path / "vi.png",
                out_path=tmp_path / "out.png",
            )
        assert not (tmp_path / "out.png").exists()

    def test_flat_sixteen_bits_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((20, 20), 3000, np.uint16)).save(tmp_path / "ir.png")
        save(tmp_path / "vi.png", 20, 20, 3)
        with pytest.raises(ValueError, match="convert it to 8 bits"):
            fuse_files(
                Visible(),
                ir_path=tmp_path / "ir.png",
                vis_path=tmp_path / "vi.png",
                out_path=tmp_path / "out.png",
            )

    @pytest.mark.parametrize(("factor", "scale"), [(257, Scale()), (16, Scale(bit_depth=12))])
    def test_sixteen_bits(self, tmp_path: Path, factor: int, scale: Scale) -> None:
        counts = save(tmp_path / "ir.png", 20, 20).astype(np.uint16) * factor
        Image.fromarray(counts).save(tmp_path / "ir.png")
        Image.fromarray(np.full((20, 20, 3), 128, np.uint8)).save(tmp_path / "vi.png")
        out = tmp_path / "out.png"
        fuse_files(Infrared(), ir_path=tmp_path / "ir.png", vis_path=tmp_path / "vi.png", out_path=out, scale=scale)
        expected = np.floor(counts * 255.0 / (2**12 - 1 if factor == 16 else 65535) + 0.5)
        assert np.array_equal(np.asarray(Image.open(out))[..., 1], expected)

    @pytest.mark.parametrize("side", ["ir", "vi"])
    def test_writing_onto_an_input_is_refused(self, folders: Path, side: str) -> None:
        (folders / "link").symlink_to(folders / side)
        files = {"ir_path": folders / "ir" / "a.png", "vis_path": folders / "vi" / "a.bmp"}
        before = files[f"{'vis' if side == 'vi' else side}_path"]
        for out in (before, folders / "link" / before.name, folders / "ir" / ".." / side / before.name):
            with pytest.raises(ValueError, match="is an input"):
                fuse_files(Visible(), **files, out_path=out)

    def test_all_images_without_partner_are_named(self, folders: Path) -> None:
        save(folders / "ir" / "only.png", 20, 20)
        save(folders / "vi" / "alone.png", 20, 20, 3)
        with pytest.raises(PairingError, match=r"^2 images have no partner .*only\.png, .*alone\.png"):
            pair_files(ir_dir=folders / "ir", vis_dir=folders / "vi")

    def test_a_single_one_without_partner(self, folders: Path) -> None:
        save(folders / "ir" / "only.png", 20, 20)
        with pytest.raises(PairingError, match="^1 image has no partner"):
            pair_files(ir_dir=folders / "ir", vis_dir=folders / "vi")

    def test_name_twice(self, folders: Path) -> None:
        save(folders / "ir" / "a.bmp", 20, 20)
        with pytest.raises(PairingError, match="same name"):
            pair_files(ir_dir=folders / "ir", vis_dir=folders / "vi")

    def test_no_folder_or_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(PairingError, match="is not a folder"):
            pair_files(ir_dir=tmp_path / "nowhere", vis_dir=tmp_path)
        with pytest.raises(PairingError, match="holds no images"):
            pair_files(ir_dir=tmp_path, vis_dir=tmp_path)


class TestCommandLine:
    def test_all_pairs(self, folders: Path) -> None:
        assert main(arguments(folders)) == 0
        assert sorted(path.name for path in (folders / "out").iterdir()) == ["a.png", "b.png"]
        assert Image.open(folders / "out" / "a.png").size == (30, 24)

    def test_a_bad_image_is_named_and_the_rest_is_fused(self, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        (folders / "ir" / "a.png").write_bytes(b"no image")
        assert main(arguments(folders)) == 1
        assert [path.name for path in (folders / "out").iterdir()] == ["b.png"]
        assert "a.png: not an image in a known format" in caplog.text
        assert "1 of 2 pairs fused" in caplog.text

    def test_interrupted(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What failed before Ctrl-C is named, and where it went on."""
        caplog.set_level(logging.INFO)
        for side, ending in (("ir", "png"), ("vi", "bmp")):
            for name in ("c", "d"):
                shutil.copy(folders / side / f"b.{ending}", folders / side / f"{name}.{ending}")
        (folders / "ir" / "a.png").write_bytes(b"no image")

        def write(path: Path, picture: np.ndarray) -> None:
            if path.stem == "c":
                raise KeyboardInterrupt
            write_image(path, picture)

        monkeypatch.setattr(sys.modules["student.fuse.files"], "write_image", write)  # the attribute is the function
        with pytest.raises(Interrupted):  # a KeyboardInterrupt
            main(arguments(folders))
        assert "a.png: not an image in a known format" in caplog.text
        assert "1 of 4 pairs fused" in caplog.text
        assert "stopped at c: the pairs before it, by name, are fused, but for those above" in caplog.text

    def test_what_the_network_refuses_is_named(self, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
        for path in (folders / "ir" / "a.png", folders / "vi" / "a.bmp"):
            Image.open(path).crop((0, 0, 8, 8)).save(path)
        assert main(arguments(folders)) == 1
        assert [path.name for path in (folders / "out").iterdir()] == ["b.png"]
        assert "ir/a.png: " in caplog.text

    def test_every_fault_of_a_file_is_named(
        self, folders: Path, reference_dir: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Decompression bombs of several formats and odd EXIF data that made decoders raise."""
        damaged = reference_dir / "faults" / "fuse_uncaught"
        if not damaged.is_dir():
            pytest.skip(f"no damaged files in {damaged}")
        for file in damaged.iterdir():
            shutil.copy(file, folders / "ir")
            shutil.copy(folders / "vi" / "a.bmp", folders / "vi" / f"{file.stem}.bmp")
        assert main(arguments(folders)) == 1
        assert {"a.png", "b.png"} <= {path.name for path in (folders / "out").iterdir()}
        for file in damaged.iterdir():
            assert file.name in caplog.text

    @pytest.mark.parametrize("out", ["ir", "vi", "link", "ir/../vi", "hard", "files"])
    def test_inputs_are_never_overwritten(self, folders: Path, out: str, caplog: pytest.LogCaptureFixture) -> None:
        (folders / "link").symlink_to(folders / "vi")
        (folders / "hard").mkdir()
        os.link(folders / "vi" / "a.bmp", folders / "hard" / "b.png")
        (folders / "files").mkdir()
        (folders / "files" / "a.png").symlink_to(folders / "ir" / "b.png")
        before = {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}
        assert main([*arguments(folders)[:-1], str(folders / out)]) == 2
        assert {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()} == before
        assert "input" in caplog.text

    def test_an_input_that_links_to_an_output(self, folders: Path) -> None:
        (folders / "out").mkdir()
        (folders / "ir" / "a.png").rename(folders / "out" / "b.png")
        (folders / "ir" / "a.png").symlink_to(folders / "out" / "b.png")
        assert main(arguments(folders)) == 2

    def test_names_with_the_mark_of_their_side(self, folders: Path) -> None:
        for side, mark in (("ir", "IR"), ("vi", "VIS")):
            for path in (folders / side).iterdir():
                path.rename(path.with_name(f"{mark}_{path.name}"))
            (folders / side / f"._{mark}_a.png").write_bytes(b"what macOS keeps beside a file")
            (folders / side / "notes.txt").write_text("no image")
            (folders / side / "old").mkdir()
        assert main(arguments(folders)) == 0
        assert sorted(path.name for path in (folders / "out").iterdir()) == ["a.png", "b.png"]

    def test_sixteen_bit_files(self, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        counts = np.random.default_rng(0).integers(7300, 7530, (24, 30), dtype=np.uint16)
        Image.fromarray(counts).save(folders / "ir" / "a.png")
        assert main(arguments(folders)) == 1
        assert "a.png: 16-bit values span only 73" in caplog.text
        for option in (["--bit-depth", "13"], ["--stretch"]):
            assert main([*arguments(folders), *option]) == 0
        assert "13-bit values" in caplog.text
        assert "0.1 to its 99.9 percentile" in caplog.text
        assert main([*arguments(folders), "--bit-depth", "12"]) == 1
        with pytest.raises(SystemExit):
            main([*arguments(folders), "--bit-depth", "12", "--stretch"])

    @pytest.mark.parametrize("out", ["file", "file/below", "/proc/nowhere"])
    def test_a_place_that_cannot_be_written_is_told_first(
        self, folders: Path, out: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folders / "file").touch()
        assert main([*arguments(folders)[:-1], str(folders / out)]) == 2
        assert f"{folders / out}: no folder to write into, " in caplog.text
        assert "of 2 pairs" not in caplog.text

    def test_a_result_that_cannot_be_written_is_named(self, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folders / "out" / "a.png").mkdir(parents=True)
        assert main(arguments(folders)) == 1
        assert f"{folders / 'out' / 'a.png'}: cannot be written, Is a directory" in caplog.text

    def test_a_flat_picture_is_named(self, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
        Image.fromarray(np.full((24, 30), 7, np.uint8)).save(folders / "ir" / "a.png")
        assert main(arguments(folders)) == 0
        assert "a.png has the same value everywhere" in caplog.text
        assert caplog.text.count("same value") == 1
        fused, vis = (np.asarray(Image.open(folders / name)) for name in ("out/a.png", "vi/a.bmp"))
        assert np.abs(fused.astype(int) - vis).max() <= 1

    def test_bad_weights(self, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folders / "student.safetensors").unlink()
        assert main(arguments(folders)) == 2
        assert "cannot be opened" in caplog.text
        assert not (folders / "out").exists()
