"""Text for people: what any console can show, whatever its encoding, and whatever a file is called."""

import io
import sys

__all__ = ["accept_any_console", "counted", "printable"]


def counted(number: int, noun: str) -> str:
    """Say how many, such as "1 image" or "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Return a text as one line that any UTF-8 stream can show.

    File names may hold line breaks, control characters and undecodable bytes; these are written as escapes.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def accept_any_console() -> None:
    r"""Let a console that is not UTF-8 show escapes such as ``\xe4`` for what it lacks, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
