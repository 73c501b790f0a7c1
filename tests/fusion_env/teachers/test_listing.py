import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusion_env import teachers
from fusion_env.errors import FusionEnvError, UnknownNameError
from fusion_env.teachers import registry

OFFICIAL = ("dcevo", "kdfuse", "ldfusion", "sage", "tdfusion", "text_if", "timfusion")


def entry(name: str, folder: Path | None = None) -> teachers.TeacherEntry:
    (found,) = (item for item in teachers.catalogue(folder) if item.name == name)
    return found


def test_every_teacher_is_listed() -> None:
    listed = teachers.catalogue()
    assert tuple(item.name for item in listed) == teachers.names()
    assert all(item.summary for item in listed)
    assert all(entry(name).repository and entry(name).licence and entry(name).files for name in OFFICIAL)
    assert {name: entry(name).weights for name in ("embedded", "laplacian", "folder", "exported", "ensemble")} == {
        "embedded": "none needed",
        "laplacian": "none needed",
        "folder": "yours",
        "exported": "yours",
        "ensemble": "yours",
    }


def test_presence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, official_files: Callable[[str], Path]) -> None:
    monkeypatch.delenv("FUSION_ENV_WEIGHTS", raising=False)
    assert entry("ldfusion").weights == "absent"
    (tmp_path / "ldfusion").symlink_to(official_files("ldfusion"))
    (tmp_path / "timfusion").mkdir()
    (tmp_path / "timfusion" / "weights_1_1059.pt").touch()
    found = entry("ldfusion", tmp_path)
    assert (found.weights, found.path) == ("present", tmp_path / "ldfusion")
    assert entry("timfusion", tmp_path).weights == "absent"
    monkeypatch.setenv("FUSION_ENV_WEIGHTS", str(tmp_path))
    assert entry("ldfusion") == found


def test_table() -> None:
    lines = str(teachers.catalogue()).split("\n")
    assert lines[0].split()[:3] == ["name", "weights", "licence"]
    assert len(lines) == 1 + len(teachers.names())
    (sage,) = (line for line in lines if line.startswith("sage "))
    assert "MIT" in sage
    assert "checkpoints.pt" in sage
    assert "github.com/RollingPlain/SAGE_IVIF" in sage


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: None) -> Iterator[None]:
    """An installed package with four entry points: a class, a module, a missing module, and something else."""
    (tmp_path / "plugin_of_a_test.py").write_text(
        "from fusion_env.teachers import LaplacianTeacher, register\n"
        "class Plugin(LaplacianTeacher):\n    'A teacher of another package.'\n"
        "@register('registered')\nclass Registered(LaplacianTeacher): pass\n"
    )
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINTS}]\nplugin = plugin_of_a_test:Plugin\nregistered = plugin_of_a_test\n"
        "gone = no_such_module:Gone\nwrong = math:pi\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("plugin_of_a_test", None)


@pytest.mark.usefixtures("plugins")
class TestEntryPoints:
    def test_a_class(self) -> None:
        assert {"plugin", "registered", "gone", "wrong", "sage"} <= set(teachers.names())
        assert teachers.load("plugin").name == "plugin"
        assert entry("plugin").summary == "A teacher of another package."

    def test_a_module_that_registers(self) -> None:
        assert type(teachers.load("registered")).__name__ == "Registered"
        assert entry("registered").summary == "plugin_of_a_test.Registered"

    def test_broken_ones_are_named_and_spoil_nothing(self) -> None:
        with pytest.raises(FusionEnvError, match=r"'gone' .*no_such_module:Gone.* cannot be imported: No module"):
            teachers.load("gone")
        with pytest.raises(FusionEnvError, match=r"'wrong' \(math:pi\).* Got float"):
            teachers.load("wrong")
        assert "cannot be imported" in entry("gone").summary
        with pytest.raises(UnknownNameError, match=r"Did you mean 'plugin'"):
            teachers.load("plugn")
