"""Find a teacher by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fusion_env.errors import unknown_name
from fusion_env.teachers.base import Teacher

__all__ = ["load", "names", "register"]

_TEACHERS: dict[str, type[Teacher]] = {}

T = TypeVar("T", bound=Teacher)


def register(name: str) -> Callable[[type[T]], type[T]]:
    """Make a `Teacher` subclass loadable by name.

    Args:
        name: Unique name; it becomes the class's ``name``.

    Returns:
        A class decorator.

    Raises:
        ValueError: If another class has the name.
    """

    def decorate(cls: type[T]) -> type[T]:
        if name in _TEACHERS:
            raise ValueError(f"teacher {name!r} is already registered, as {_TEACHERS[name].__qualname__}.")
        cls.name = name
        _TEACHERS[name] = cls
        return cls

    return decorate


def names() -> tuple[str, ...]:
    """Return the names of all registered teachers, sorted."""
    return tuple(sorted(_TEACHERS))


def load(name: str, weights: str | os.PathLike[str] | None = None) -> Teacher:
    """Build a teacher, in evaluation mode and without gradients, on the CPU.

    Args:
        name: One of `names`.
        weights: File or folder, where the teacher needs one; see its ``from_weights``.

    Returns:
        The teacher.

    Raises:
        UnknownNameError: If no teacher has the name.
        MissingRequirementsError: If weights are needed and are not there.
        ConfigError: If weights are given to a teacher that takes none.
        student.WeightsError: If a weights file is damaged or is another network's.
    """
    if name not in _TEACHERS:
        raise unknown_name("teacher", name, _TEACHERS)
    teacher = _TEACHERS[name].from_weights(None if weights is None else Path(weights))
    return teacher.eval().requires_grad_(False)
