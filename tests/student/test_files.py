"""Files appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from student.files import is_part, parts_of, write_atomic
from tests.unfinished_files import unfinished


def test_overwrites_and_respects_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "w"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w"
    write_atomic(path, b"old")

    def disk_full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["w.png", "[a] *.png", "no ending", "ä" * 120 + ".png", ".hidden", "v1." + "x" * 250])
def test_what_a_killed_writer_left_is_found(tmp_path: Path, name: str) -> None:
    path, other = tmp_path / name, tmp_path / "other.png"
    write_atomic(path, b"old")
    with unfinished(path) as left, unfinished(other):
        assert parts_of(path) == [left]
        assert is_part(left)
        assert left.name.endswith(path.suffix) or len(path.suffix) > 64  # encoders choose by it
        assert path.read_bytes() == b"old"
    assert not is_part(path)
    assert not parts_of(path)
