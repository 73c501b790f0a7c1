"""`python -m fusion_env.metrics`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from fusion_env import metrics
from fusion_env.metrics.__main__ import main
from fusion_env.perception.clip_iqa import load_clip_iqa
from fusion_env.perception.clip_weights import untrained_clip
from student.weights import save_state
from tests.fusion_env.metrics.named import named


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A fused JPEG in colour, a grey infrared PNG, a visible PNG in colour."""
    random = np.random.default_rng(0)
    paths = []
    for name, shape in (("fused.jpg", (200, 180, 3)), ("ir.png", (200, 180)), ("vi.png", (200, 180, 3))):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
        paths.append(str(tmp_path / name))
    return paths


def luma(path: str) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path)))
    if pixels.ndim == 2:
        return pixels[None, None]
    weighted = (pixels.long() * torch.tensor([299, 587, 114])).sum(-1)
    return ((weighted + 500) // 1000).to(torch.uint8)[None, None]


def test_all_metrics_are_printed(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    names = [name for name in metrics.names() if name != "clip_iqa"]
    assert list(lines) == [*names, "clip_iqa"]
    expected = metrics.compute(names, **named(luma(path) for path in files))
    for name in names:
        assert float(lines[name].split()[1]) == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-6), name
        assert metrics.get(name).summary in lines[name]
    assert "not computed" in lines["clip_iqa"]
    assert "--clip-weights FILE" in lines["clip_iqa"]


def test_json_of_chosen_metrics(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--metrics", "vif", "ag", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert list(values) == ["vif", "ag"]
    assert values["ag"] == float(metrics.compute(["ag"], luma(files[0]))["ag"])


def test_json_of_all_says_beside_it_what_is_absent(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json"]) == 0
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)) == [name for name in metrics.names() if name != "clip_iqa"]
    assert captured.err.startswith("clip_iqa: needs a network")


def test_infinity_is_null(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    same = [files[1]] * 3
    assert main([*same, "--metrics", "psnr", "sd", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["psnr"] is None
    assert values["sd"] > 0


def test_small_images(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in files:
        Image.open(path).crop((0, 0, 40, 40)).save(path)
    assert main(files) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "not computed  needs sides of 41 pixels or more" in lines["vif"]
    assert float(lines["sd"].split()[1]) > 0
    assert main([*files, "--metrics", "vif"]) == 2
    assert "41" in capsys.readouterr().err


def test_clip_iqa_with_weights(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    config = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "metrics-main-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "metrics-main-test.json")
    save_state(untrained_clip(model="metrics-main-test").state_dict(), tmp_path / "clip.pt")
    clip = ["--clip-weights", str(tmp_path / "clip.pt"), "--clip-model", "metrics-main-test"]
    assert main([*files, *clip, "--metrics", "sd", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    score = load_clip_iqa(tmp_path / "clip.pt", "metrics-main-test")
    assert list(values) == ["sd", "clip_iqa"]
    assert values["clip_iqa"] == pytest.approx(score(luma(files[0]) / 255).item(), abs=1e-6)
    assert main([*files, *clip]) == 0
    assert "not computed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: [files[0], files[1], "nowhere.png"], "nowhere.png: no such file"),
        (lambda files: [*files, "--metrics", "vfi"], "Did you mean 'vif'"),
        (lambda files: [*files, "--clip-weights", files[0]], "fused.jpg"),
    ],
)
def test_errors_are_one_line(
    change: Callable[[list[str]], list[str]], message: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(change(files)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_sizes_must_agree(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(files[1]).crop((0, 0, 100, 90)).save(files[1])
    assert main(files) == 2
    assert "ir.png 90 x 100" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_as_a_module(files: list[str]) -> None:
    command = [sys.executable, "-m", "fusion_env.metrics", *files, "--metrics", "ag", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(result.stdout)["ag"] > 0
