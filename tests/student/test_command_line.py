"""``fusion-student`` as a new user calls it."""

import importlib
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from student import command_line
from student.command_line import fuse_command, main
from student.network import FusionStudent
from student.weights import save_state


def save(path: Path, *shape: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    caplog.set_level(logging.INFO)
    return str(save(tmp_path / "ir.png", 40, 50)), str(save(tmp_path / "vis.jpg", 40, 50, 3))


class TestFuse:
    def test_one_pair(self, pair: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert main(["fuse", *pair, "-o", str(tmp_path / "out.png"), "--device", "cpu"]) == 0
        assert Image.open(tmp_path / "out.png").size == (50, 40)
        assert "the embedded student on cpu, float32" in caplog.text
        assert "megapixels a second" in caplog.text

    def test_folders_with_own_weights_in_tiles(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            save(tmp_path / "ir" / f"{name}.png", 70, 80)
            save(tmp_path / "vi" / f"{name}.bmp", 70, 80, 3)
        save_state(FusionStudent(1).state_dict(), tmp_path / "own.safetensors")
        places = [str(tmp_path / "ir"), str(tmp_path / "vi"), "-o", str(tmp_path / "out")]
        assert main(["fuse", *places, "--weights", str(tmp_path / "own.safetensors"), "--tile", "64"]) == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]

    def test_how_well_each_pair_of_folders_is_aligned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Found:
            def describe(self) -> str:
                return "well"

            def apply(self, *, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
                return ir

        caplog.set_level(logging.INFO)
        for name in ("a", "b"):
            save(tmp_path / "ir" / f"{name}.png", 40, 50)
            save(tmp_path / "vi" / f"{name}.png", 40, 50, 3)
        monkeypatch.setattr(fuse_command, "align", lambda **_: Found())
        assert main(["fuse", str(tmp_path / "ir"), str(tmp_path / "vi"), "-o", str(tmp_path / "out"), "--align"]) == 0
        assert [line for line in caplog.messages if "aligned" in line] == ["a aligned: well", "b aligned: well"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["IR"], "VIS is missing"),
            (["IR", "nowhere.png"], "nowhere.png: no such file"),
            (["IR", "."], "name two of one kind"),
            (["IR", "IR"], "are the same; name the infrared and the visible one"),
            ([".", "."], "are the same"),
            (["IR", "VIS", "--side-by-side", "ir-left"], "leave out VIS"),
            (["IR", "--side-by-side", "ir-left"], "--side-by-side is for videos"),
            (["VIDEO", "OTHER"], "OUT must name a video that ends in one of .avi, .m4v, .mkv, .mov, .mp4"),
            (["IR", "VIS", "--half", "--device", "cpu"], "needs a CUDA device"),
            (["IR", "VIS", "--tile", "9"], "tile must be at least 64"),
            (["IR", "VIS", "--weights", "nowhere.pt"], "nowhere.pt cannot be opened"),
            (["IR", "VIS", "--align"], "no trustworthy alignment"),
        ],
    )
    def test_refused(
        self,
        pair: tuple[str, str],
        tmp_path: Path,
        arguments: list[str],
        message: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
        for video in videos:
            video.touch()
        names = dict(zip(("IR", "VIS", "VIDEO", "OTHER"), (*pair, *map(str, videos)), strict=True))
        assert main(["fuse", *(names.get(part, part) for part in arguments), "-o", str(tmp_path / "out.png")]) == 2
        assert message in caplog.text
        assert not (tmp_path / "out.png").exists()

    def test_the_result_never_replaces_the_weights(
        self, pair: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        weights = tmp_path / "own.png"
        save_state(FusionStudent(1).state_dict(), weights)
        assert main(["fuse", *pair, "-o", str(weights), "--weights", str(weights)]) == 2
        assert "is an input" in caplog.text

    def test_a_full_gpu(
        self, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr(fuse_command, "load", fail)
        assert main(["fuse", *pair, "-o", "out.png"]) == 2
        assert "CUDA out of memory" in caplog.text

    def test_other_ending(self, pair: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
        assert main(["fuse", *pair, "-o", "out.gif"]) == 2
        assert "OUT must name a file that ends in one of .png" in caplog.text

    def test_an_image_that_cannot_be_written(
        self, pair: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert main(["fuse", *pair, "-o", str(tmp_path / "ir.png" / "out.png")]) == 2
        assert f"{tmp_path / 'ir.png'}: no folder to write into, " in caplog.text


def test_interrupted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "main", interrupt)
    with pytest.raises(SystemExit) as stopped:
        command_line.command()
    assert stopped.value.code == 130
    assert "stopped; files that are there are whole" in caplog.text


def test_info(capsys: pytest.CaptureFixture, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["info"]) == 0
    assert "652,385" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "nowhere.pt")]) == 2
    assert "cannot be opened" in caplog.text


class TestExport:
    def test_a_folder_for_the_hub_with_metrics(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        pytest.importorskip("huggingface_hub")
        table = tmp_path / "summary.csv"
        table.write_text("method,metric,mean\nstudent,vif,0.5\nother,vif,0.4\n")
        out = ["-o", str(tmp_path / "hub"), "--repo", "me/mine", "--metrics", str(table)]
        assert main(["export", *out, "--dataset", "TNO"]) == 0
        assert "| vif | 0.5000 |" in (tmp_path / "hub" / "README.md").read_text()
        assert main(["export", *out, "--method", "third"]) == 2
        assert "has no method 'third': name one of its own with --method (other, student)" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "hub", "--half"], "--half is for files that end in .onnx or .pt2"),
            (["-o", "x.onnx", "--repo", "me/mine", "--metrics", "x.csv"], "--repo, --metrics: only a folder"),
            (["-o", "hub", "--metrics", "good.csv"], "--metrics needs --dataset"),
            (["-o", "hub", "--metrics", "x.csv", "--dataset", "TNO"], "x.csv holds a mean that is no number"),
        ],
    )
    def test_options_that_would_have_no_effect(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        arguments: list[str],
        message: str,
    ) -> None:
        pytest.importorskip("huggingface_hub")
        monkeypatch.chdir(tmp_path)
        Path("x.csv").write_text("method,metric,mean\nstudent,vif,\n")
        Path("good.csv").write_text("method,metric,mean\nstudent,vif,0.5\n")
        assert main(["export", *arguments]) == 2
        assert message in caplog.text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["good.csv", "x.csv"]

    @pytest.mark.parametrize("name", ["config.json", "README.md"])
    def test_a_folder_of_something_else_stays_as_it_is(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        pytest.importorskip("huggingface_hub")
        (tmp_path / name).write_text("of a run")
        assert main(["export", "-o", str(tmp_path)]) == 2
        assert f"{tmp_path} holds {name} of something else" in caplog.text
        assert [path.read_text() for path in tmp_path.iterdir()] == ["of a run"]
        assert main(["export", "-o", str(tmp_path / "hub")]) == 0
        assert main(["export", "-o", str(tmp_path / "hub")]) == 0  # of a student: written anew

    @pytest.mark.parametrize("name", ["x.pt2", "hub"])
    def test_a_place_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setitem(command_line.FORMATS, ".pt2", fail)
        monkeypatch.setattr(pytest.importorskip("student.hub"), "save_state", fail)
        assert main(["export", "-o", str(tmp_path / name)]) == 2
        assert f"{tmp_path / name}: cannot be written, No space left on device" in caplog.text

    def test_other_ending(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert main(["export", "-o", str(tmp_path / "x.txt")]) == 2
        assert "OUT must end in .onnx or .pt2, or be a folder" in caplog.text


def test_a_command_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fusion_student.commands]\nshout = my_shout:command\n")
    (tmp_path / "my_shout.py").write_text("import sys\n\nseen = []\n\n\ndef command():\n    seen.extend(sys.argv)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fusion-student", "shout", "--loud"])
    command_line.command()
    assert importlib.import_module("my_shout").seen == ["fusion-student shout", "--loud"]
