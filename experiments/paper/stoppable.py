"""How the paper's commands end: with a page, or stopped by the user, who is told how to go on."""

from collections.abc import Callable
from pathlib import Path

from experiments.running.interruption import Interrupted, interrupt_at_once
from student.console import printable

__all__ = ["make_and_show"]


def make_and_show(make: Callable[[], Path], command: str) -> int:
    """Make a page and print it.

    Args:
        make: Returns the page; SIGINT or SIGTERM end it.
        command: How it was called, for those who want to go on.

    Returns:
        Exit status: 0 finished, 130 interrupted.
    """
    try:
        with interrupt_at_once():
            page = make()
    except Interrupted:
        print(f"\nstopped; the same command goes on where it was: {printable(command)}")
        return 130
    print(f"\n{page.read_text(encoding='utf-8')}\nWritten to {printable(str(page))}")
    return 0
