"""Things that are chosen by name: teachers, metrics, feature networks, quality scores, data sources, presets."""

from collections.abc import Callable
from typing import Generic, TypeVar

from fusion_env.errors import unknown_name

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to things of one kind.

    Args:
        kind: What a name stands for, in messages, such as ``"teacher"``.

    >>> shapes = Registry("shape")
    >>> @shapes.register("disc")
    ... def disc(radius): ...
    >>> shapes.names()
    ('disc',)
    >>> shapes.get("disk")
    Traceback (most recent call last):
    fusion_env.errors.UnknownNameError: unknown shape 'disk'. Did you mean 'disc'? Known: disc
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Make a class or function known under a name; a decorator that returns it unchanged.

        Raises:
            ValueError: If something else has the name.
        """

        def decorate(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self.kind} {name!r} is already registered, as {self._members[name]!r}.")
            self._members[name] = member
            return member

        return decorate

    def get(self, name: str) -> T:
        """Return what has a name.

        Raises:
            UnknownNameError: If nothing has it; the message suggests the nearest name.
        """
        if not isinstance(name, str) or name not in self._members:
            raise unknown_name(self.kind, name, self.names())
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        """Return whether something has the name."""
        return name in self._members

    def names(self) -> tuple[str, ...]:
        """Return all names, in the order of registration."""
        return tuple(self._members)
