"""Memory in large pages: maps of a megapixel image are made and given back in every layer, page by page."""

import os

__all__ = ["VARIABLE", "ask_for_large_pages"]

VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's own switch, which does something on Linux only.

It is read when the first tensor is made, so that no import may make one.
"""


def ask_for_large_pages() -> None:
    """Let PyTorch ask the system for pages of 2 MiB, for tensors of at least that, unless the variable says otherwise.

    It holds for the whole process, so that a program asks for it at its start, and a library never does. It costs
    memory: a third more for a large image in tiles.
    """
    os.environ.setdefault(VARIABLE, "1")
