from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from experiments.weights import program as module
from experiments.weights.images import FUSIONS, Lumas
from experiments.weights.program import Program, run_program
from fusion_env.perception.embedded_quality import EmbeddedQuality, load_embedded_quality


def measure(network: EmbeddedQuality, lumas: Lumas) -> str:
    return f"{len(lumas['ir'])} scenes as {', '.join(lumas)}"


def train(lumas: Lumas, iterations: int, seed: int) -> EmbeddedQuality:
    assert (len(lumas["vis"]), iterations, seed) == (2, 7, 3)
    return load_embedded_quality(None)


PROGRAM = Program("quality", "Some score", "What it is.", 50, train, load_embedded_quality, measure)


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRAIN_SCENES", 2)
    monkeypatch.setattr(module, "HELD_OUT_SCENES", 1)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_weights_and_card(tmp_path: Path) -> None:
    assert run_program(PROGRAM, ["--out", str(tmp_path), "--seed", "3", "--iterations", "7"]) == 0
    card = (tmp_path / "quality.md").read_text()
    stored = load_embedded_quality(tmp_path / "quality.safetensors")
    assert f"fingerprint `{stored.fingerprint()}`" in card
    assert "`python experiments/weights/train_quality.py --out fusion_env/assets --seed 3 --iterations 7`" in card
    assert f"1 scenes as {', '.join(('ir', 'vis', *FUSIONS))}" in card


def test_a_report_keeps_its_other_sections(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report = tmp_path / "report.md"
    report.write_text("# Title\n\n## Some score\n\nold\n\n## Other\n\nstays\n")
    assert run_program(PROGRAM, ["--evaluate", "--report", str(report)]) == 0
    first, *rest = report.read_text().split("\n\n## ")
    assert first == "# Title"
    assert rest[0] == "Other\n\nstays"
    assert "1 scenes as" in rest[1]
    assert "old" not in rest[1]
    assert not capsys.readouterr().out


def test_a_folder_is_measured_on_its_validation_list(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for side in ("ir", "vi"):
        (tmp_path / "few" / side).mkdir(parents=True)
        for name in "abc":
            cv2.imwrite(str(tmp_path / "few" / side / f"{name}.png"), np.zeros((200, 200), np.uint8))
    (tmp_path / "few" / "train.txt").write_text("b\n")
    (tmp_path / "few" / "val.txt").write_text("a\nc\n")
    assert run_program(PROGRAM, ["--evaluate", "--data", str(tmp_path / "few")]) == 0
    printed = capsys.readouterr().out
    assert "### few, the 2 pairs of val.txt\n\n2 scenes as ir, vis, average, laplacian, teacher" in printed


@pytest.mark.parametrize("arguments", [[], ["--evaluate", "--out", "x"], ["--out", "x", "--iterations", "1"]])
def test_misuse(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        run_program(PROGRAM, arguments)
