"""Things that are chosen by name: teachers, metrics, feature networks, quality scores, data sources, presets."""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from fusion_env.errors import unknown_name

__all__ = ["Registry"]

T = TypeVar("T")

_NAME = re.compile(r"[\w.+-]+( [\w.+-]+)*")


class Registry(Generic[T]):
    """A table from names to things of one kind.

    Args:
        kind: What a name stands for, in messages, such as ``"teacher"``.
        wanted: What is registered, in messages.
        fits: Whether something is that.

    >>> shapes = Registry("shape")
    >>> @shapes.register("disc")
    ... def disc(radius): ...
    >>> shapes.names()
    ('disc',)
    >>> shapes.get("disk")
    Traceback (most recent call last):
    fusion_env.errors.UnknownNameError: unknown shape 'disk'. Did you mean 'disc'? Known: disc
    """

    def __init__(
        self, kind: str, wanted: str = "a function or class", fits: Callable[[object], bool] = callable
    ) -> None:
        self.kind, self.wanted, self._fits = kind, wanted, fits
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Make a class or function known under a name; a decorator that returns it unchanged.

        Raises:
            TypeError: If the name is no text, or what gets it is of the wrong kind.
            ValueError: If the name holds other characters than letters, digits, ``_ . + -`` and single spaces between
                them, or something else has it.
        """
        if not isinstance(name, str):
            raise TypeError(
                f'a {self.kind} is registered under a name: @register("name"), or register("name")(...). '
                f"Got {_told(name)}."
            )
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"the name of a {self.kind} must be of letters, digits, '_', '.', '+', '-' and single spaces. "
                f"Got {name!r}."
            )

        def decorate(member: T) -> T:
            if not self._fits(member):
                raise TypeError(f"{self.kind} {name!r} must be {self.wanted}. Got {_told(member)}.")
            if name in self._members:
                raise ValueError(
                    f"{self.kind} {name!r} is already registered, as {_told(self._members[name])}; choose another name."
                )
            self._members[name] = member
            return member

        return decorate

    def get(self, name: str) -> T:
        """Return what has a name.

        Raises:
            UnknownNameError: If nothing has it; the message suggests the nearest name.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self.names())
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        """Return whether something has the name."""
        return isinstance(name, str) and name in self._members

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._members))


def _told(member: object) -> str:
    """Name a class or function, and anything else by its class: what it holds may fill pages."""
    name = getattr(member, "__qualname__", None)
    return f"{member.__module__}.{name}" if name else f"a {type(member).__name__}"
