"""Files and folders that hide our packages of generic names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def imported(statement: str, cwd: Path) -> str:
    """Run a statement in a folder that comes before the checkout; return what it writes to stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(cwd), str(CHECKOUT)))}
    done = subprocess.run(
        [sys.executable, "-c", statement], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.stderr


@pytest.mark.parametrize(
    ("path", "statement"),
    [("student.py", "import fusion_env"), ("agents/__init__.py", "import experiments.command_line")],
)
def test_what_hides_a_package_is_named(tmp_path: Path, path: str, statement: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    last = imported(statement, tmp_path).strip().splitlines()[-1]
    assert last.startswith("ImportError: 'import ")
    assert str(file.resolve()) in last


@pytest.mark.slow
def test_a_folder_without_code_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "agents").mkdir()
    assert imported("import fusion_env, experiments.command_line", tmp_path) == ""
