"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable

__all__ = ["hint"]


def hint(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known word, or nothing where none is near."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), list(names), n=1, cutoff=0.4)
    return f" Did you mean {names[near[0]]!r}?" if near else ""
