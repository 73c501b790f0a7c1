"""Students fused and compared by one command, for two images as for two folders."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.compare import main
from fusion_env.errors import ConfigError, DataError
from student.network import FusionStudent
from student.weights import save_state


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    generator = np.random.default_rng(0)
    for name, shape in (("heat.png", (48, 64)), ("light.jpg", (48, 64, 3))):
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
    return tmp_path / "heat.png", tmp_path / "light.jpg"


def test_two_images(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_state(FusionStudent(1).state_dict(), tmp_path / "own.safetensors")
    students = ["--students", "mine=" + str(tmp_path / "own.safetensors"), "embedded=embedded"]
    assert main([*map(str, pair), "--out", str(tmp_path / "out"), *students, "--metrics", "en"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"grid.png", "summary.md", "summary.csv", "fused"}
    assert (tmp_path / "out" / "fused" / "mine" / "light.png").exists()
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in ("mine", "embedded"))
    assert "Values of 1 image. **Best**" in table
    page = (tmp_path / "out" / "summary.md").read_text()
    assert f" {shlex.join([*map(str, pair), '--out', str(tmp_path / 'out'), *students])} --metrics en`" in page


def test_faults_are_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such file"):
        main([str(pair[0]), "nowhere", "--out", str(tmp_path / "out")])
    with pytest.raises(DataError, match="must be two images or two folders"):
        main([str(pair[0]), str(tmp_path), "--out", str(tmp_path / "out")])
    for path in pair:
        Image.open(path).crop((0, 0, 40, 30)).save(path)
    too_small = f"(1 problem):\n  {pair[1]}: 30 x 40 pixels; the metrics need sides of 41 or more"
    with pytest.raises(DataError, match=re.escape(too_small) + "$"):
        main([*map(str, pair), "--out", str(tmp_path / "out")])
    pair[0].write_bytes(b"no image")
    with pytest.raises(DataError, match=re.escape(f"{pair[0]}: not an image")):
        main([*map(str, pair), "--out", str(tmp_path / "out")])


def test_inputs_are_never_replaced(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for side, file in zip(("ir", "vi"), pair, strict=True):
        (tmp_path / side).mkdir()
        shutil.copy(file, tmp_path / side / f"a{file.suffix}")
    for side, file in zip(("ir", "vi"), pair, strict=True):
        with pytest.raises(ConfigError, match=f"{side} is a folder of images to compare; choose another --out"):
            main([str(tmp_path / "ir"), str(tmp_path / "vi"), "--out", str(tmp_path / side)])
        assert [path.name for path in (tmp_path / side).iterdir()] == [f"a{file.suffix}"]
    montage = shutil.copy(pair[1], tmp_path / "grid.png")
    with pytest.raises(DataError, match=r"grid\.png is an input"):
        main([str(pair[0]), str(montage), "--out", str(tmp_path)])


@pytest.mark.parametrize("name", ["../a", "a/b", "..", ""])
def test_names_are_names_of_folders(
    pair: tuple[Path, Path], tmp_path: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        main([*map(str, pair), "--out", str(tmp_path / "out"), "--students", f"{name}=embedded"])
    assert "must be NAME=WEIGHTS, NAME a folder's" in capsys.readouterr().err


def test_settings_are_checked(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are the same"):
        main([str(pair[1]), str(pair[1]), "--out", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="device 'nonsense' cannot be used"):
        main([*map(str, pair), "--out", str(tmp_path / "out"), "--device", "nonsense"])
