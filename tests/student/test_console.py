"""Text for people on every console."""

import io
import sys

import pytest

from student.console import accept_any_console, counted, printable


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_console_lacks_is_shown_as_an_escape(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding))
    accept_any_console()
    sys.stdout.write("図 ä \udcff\n")
    sys.stdout.flush()
    shown = stream.getvalue().decode(encoding)
    assert shown in ("図 ä \\udcff\n", "\\u56f3 ä \\udcff\n", "\\u56f3 \\xe4 \\udcff\n")


def test_other_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    accept_any_console()


def test_counted() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_printable() -> None:
    assert printable("a\nb\x1b\udcff Bäume 図") == r"a\nb\x1b\udcff Bäume 図"
