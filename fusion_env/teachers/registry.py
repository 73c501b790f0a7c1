"""Find a teacher by name: those of this package, those registered in Python, those of installed packages."""

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from fusion_env.errors import FusionEnvError, TeacherError, unknown_name
from fusion_env.registry import Registry
from fusion_env.teachers.base import Teacher
from student.numerics import own_numerics

__all__ = ["ENTRY_POINTS", "TEACHERS", "get", "load", "missing", "names", "register"]

ENTRY_POINTS = "fusion_env.teachers"
"""Entry-point group of other packages: the teacher's name = its class, or the module that registers it."""

TEACHERS: Registry[type[Teacher]] = Registry(
    "teacher",
    "a subclass of fusion_env.teachers.Teacher (fusion_env.teachers.from_callable makes a teacher of a function)",
    lambda member: isinstance(member, type) and issubclass(member, Teacher),
)
"""Those of this package and those registered in Python; `names` and `get` know those of installed packages, too."""

T = TypeVar("T", bound=Teacher)


def register(name: str) -> Callable[[type[T]], type[T]]:
    """Make a `Teacher` subclass loadable by name.

    Args:
        name: Unique name; it becomes the class's ``name``.

    Returns:
        A class decorator.

    Raises:
        TypeError: If the name is no text, or what gets it no such class.
        ValueError: If it cannot be a name, another class has it, or the class has another one.
    """
    enter = TEACHERS.register(name)

    def decorate(cls: type[T]) -> type[T]:
        earlier = [known for known in TEACHERS.names() if TEACHERS.get(known) is cls]
        if earlier and name not in TEACHERS:
            raise ValueError(
                f"{cls.__qualname__} is registered as teacher {earlier[0]!r} already: register a subclass as {name!r}."
            )
        enter(cls)
        cls.name = name
        return cls

    return decorate


def names() -> tuple[str, ...]:
    """Return the names of all teachers, sorted; those of installed packages are not imported for it."""
    return tuple(sorted({*TEACHERS.names(), *_entry_points()}))


def get(name: str) -> type[Teacher]:
    """Return a teacher's class, importing it if it belongs to another installed package.

    Args:
        name: One of `names`.

    Raises:
        UnknownNameError: If no teacher has the name.
        FusionEnvError: If another package's teacher cannot be imported or is none.
    """
    if name not in TEACHERS:
        entry = _entry_points().get(name) if isinstance(name, str) else None
        if entry is None:
            raise unknown_name("teacher", name, names())
        _import(name, entry)
    return TEACHERS.get(name)


@own_numerics()
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
        NotImplementedError: If the class does not say how it is loaded.
        TeacherError: If it makes anything but a teacher.
        student.WeightsError: If a weights file is damaged or is another network's.
    """
    teacher = get(name).from_weights(None if weights is None else Path(weights))
    if not isinstance(teacher, Teacher):
        raise TeacherError(f"from_weights of teacher {name!r} must return a Teacher. Got {type(teacher).__name__}.")
    return teacher.eval().requires_grad_(False)


def missing(name: str, weights: str | os.PathLike[str] | None = None) -> str | None:
    """Say, before any work, which weights `load` would not find.

    Args:
        name: One of `names`.
        weights: As for `load`.

    Returns:
        What is missing and where its makers publish it; None if nothing is, or if only loading can tell.
    """
    return get(name).missing(None if weights is None else Path(weights))


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=ENTRY_POINTS)}


def _import(name: str, entry: metadata.EntryPoint) -> None:
    """Register the teacher of an entry point; its module may have done that itself when it was imported."""
    try:
        target = entry.load()
    except Exception as error:  # whatever another package's import raises
        raise FusionEnvError(
            f"teacher {name!r} of the installed package behind {entry.value!r} cannot be imported: {error}"
        ) from error
    if name not in TEACHERS and isinstance(target, type) and issubclass(target, Teacher):
        try:
            register(name)(target)
        except ValueError as error:  # not a name, or a second one for the same class
            raise FusionEnvError(f"entry point {entry.value!r}: {error}") from error
    if name not in TEACHERS:
        raise FusionEnvError(
            f"entry point {name!r} ({entry.value}) of the group {ENTRY_POINTS!r} is neither a subclass of "
            f"fusion_env.teachers.Teacher nor a module that registers {name!r}. Got {type(target).__name__}."
        )
