"""The commands on consoles and locales that are not UTF-8, with names that are not ASCII."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from student.network import FusionStudent
from student.weights import save_state

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ("Bäume 図", "plain")
SETTINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "cp1252": {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
}


def run(setting: str, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **SETTINGS[setting], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    arguments = [sys.executable, *command]
    done = subprocess.run(arguments, env=environment, cwd=CHECKOUT, capture_output=True, check=False, timeout=300)
    out, err = (stream.decode(setting) for stream in (done.stdout, done.stderr))
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(command, done.returncode, out, err)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for side, shape in (("ir", (48, 60)), ("vi", (48, 60, 3)), ("fused", (48, 60))):
        (tmp_path / side).mkdir()
        for name in NAMES:
            Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / side / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("setting", ["ascii", pytest.param("cp1252", marks=pytest.mark.slow)])
class TestCommands:
    @pytest.mark.slow
    def test_evaluate(self, folders: Path, setting: str) -> None:
        sources = ["--ir", str(folders / "ir"), "--vi", str(folders / "vi"), "--metrics", "en"]
        command = ["experiments/evaluate.py", *sources, "--fused", f"mäßig={folders / 'fused'}"]
        done = run(setting, *command, "--out", str(folders / "out"))
        assert done.returncode == 0, done.stderr
        assert "| 2 |" in done.stdout
        images = pd.read_csv(folders / "out" / "images.csv", encoding="utf-8")
        assert tuple(images.image) == NAMES
        assert set(images.method) == {"mäßig"}
        assert "mäßig" in (folders / "out" / "summary.md").read_text(encoding="utf-8")
        (folders / "fused" / f"{NAMES[0]}.png").unlink()
        (folders / "fused" / "plain.png").write_bytes(b"no image")
        done = run(setting, *command, "--out", str(folders / "out"))
        assert done.returncode == 2
        assert [line[:2] for line in done.stderr.strip().splitlines()[-3:]] == ["er", "  ", "  "]

    @pytest.mark.slow
    def test_fuse(self, folders: Path, setting: str) -> None:
        save_state(FusionStudent(1).state_dict(), folders / "student.safetensors")
        (folders / "ir" / "plain.png").write_bytes(b"no image")
        places = {"--weights": "student.safetensors", "--ir": "ir", "--vi": "vi", "--out": "öut"}
        options = [part for option, place in places.items() for part in (option, str(folders / place))]
        done = run(setting, "-m", "student.fuse", *options)
        assert done.returncode == 1
        assert "1 of 2 pairs fused" in done.stderr
        assert [path.name for path in (folders / "öut").iterdir()] == [f"{NAMES[0]}.png"]

    @pytest.mark.slow
    def test_metrics(self, folders: Path, setting: str) -> None:
        files = [str(folders / side / f"{NAMES[0]}.png") for side in ("fused", "ir", "vi")]
        done = run(setting, "-m", "fusion_env.metrics", *files, "--metrics", "en", "vif")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("en ")
        (folders / "ir" / f"{NAMES[0]}.png").unlink()
        assert run(setting, "-m", "fusion_env.metrics", *files).returncode == 2

    @pytest.mark.slow
    def test_a_run_and_its_replay(self, tmp_path: Path, setting: str, cache: str) -> None:
        out = str(tmp_path / "läuft")
        more = ["--cache-dir", cache, "--threads", "1", "--no-details", "--rounds", "2", "--out", out]
        done = run(setting, "experiments/run_reinforce.py", "--preset", "tiny", *more)
        assert done.returncode == 0, done.stderr
        (log,) = Path(out).glob("events.out.tfevents*")
        assert b"env/gap" in log.read_bytes()
        assert run(setting, "experiments/replay.py", out).returncode == 0
