import csv
from pathlib import Path

import pytest

from experiments.measurements import inference_speed


def test_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(inference_speed.importlib.util, "find_spec", lambda name: None)  # exports take their time
    inference_speed.main(["--size", "96x64", "--repeats", "1", "--out", str(tmp_path)])
    with (tmp_path / "inference.csv").open() as file:
        rows = {row["way"]: row for row in csv.DictReader(file)}
    assert list(rows) == [
        "LDFusion, eager",
        "eager",
        "channels-last",
        "LDFusion, layers for a CPU (as a teacher)",
        "layers for a CPU (student.fuse)",
    ]
    assert all(float(row["ms"]) > 0 for row in rows.values())
    assert float(rows["layers for a CPU (student.fuse)"]["largest error"]) < 1e-4
    assert "Not installed, so not measured: onnxruntime, openvino." in capsys.readouterr().out
