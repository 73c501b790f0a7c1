"""The student that comes with the package is found without the environment's code."""

import subprocess
import sys
from pathlib import Path

import pytest

from student import embedded
from student.origin import open_student
from student.weights import WeightsError

CODE = """
import sys
from student.origin import open_student
open_student(None)
found = {"fusion_env", "gymnasium", "experiments", "agents", "av", "onnx", "huggingface_hub"} & set(sys.modules)
assert not found, found
"""


def test_it_has_the_published_size() -> None:
    student, name = open_student(None)
    assert name == embedded.EMBEDDED
    assert sum(parameter.numel() for parameter in student.parameters()) == 652_385


@pytest.mark.slow
def test_nothing_but_the_student_is_imported() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_missing_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.resources, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match=r"student\.safetensors, a part of this package, is missing; install"):
        open_student(None)
