"""Settings of a class: which its constructor takes, of what types, and what to say of others."""

import difflib
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["check_names", "check_types", "hint", "setting_names", "setting_types"]

_NOT_SETTINGS = {"self", "env", "origin"}
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def setting_names(found: type) -> list[str]:
    """List the keyword arguments of a class, those that `**common` hands on to its bases included."""
    keys: list[str] = []
    for constructor in _constructors(found):
        parameters = inspect.signature(constructor).parameters.values()
        keys += [parameter.name for parameter in parameters if parameter.kind not in _COLLECTING]
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return [key for key in dict.fromkeys(keys) if not key.startswith("_") and key not in _NOT_SETTINGS]


def setting_types(found: type) -> dict[str, Any]:
    """Collect the annotations of a class's constructor by argument, those of its bases included."""
    collected: dict[str, Any] = {}
    for constructor in _constructors(found):
        try:
            collected = typing.get_type_hints(constructor) | collected
        except NameError:  # written for a type checker only
            continue
    return collected


def _constructors(found: type) -> Iterator[Callable[..., None]]:
    return (vars(base)["__init__"] for base in found.__mro__ if "__init__" in vars(base))


def check_names(source: str, owner: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse settings that do not exist.

    Args:
        source: Where the settings come from, to begin the message with.
        owner: Name of what is set.
        given: Names of the settings.
        known: Names that exist.

    Raises:
        ValueError: One is unknown; the message suggests the nearest.
    """
    for key in given:
        if key not in known:
            raise ValueError(
                f"{source}: {owner!r} has no setting {key!r}.{hint(key, known)} Known: {', '.join(known)}."
            )


def check_types(source: str, settings: Mapping[str, Any], announced: Mapping[str, Any]) -> None:
    """Refuse settings of another type than announced, and numbers that are not a number.

    Lists and tuples stand for each other, and what is annotated in no simple way is let through.

    Args:
        source: Where the settings come from, to begin the message with.
        settings: The settings.
        announced: What `setting_types` returns.

    Raises:
        TypeError: A setting has another type.
        ValueError: A setting is NaN.
    """
    for key, value in settings.items():
        if not _fits(value, announced.get(key, Any)):
            wanted = inspect.formatannotation(announced[key]).replace("typing.", "").replace("NoneType", "None")
            raise TypeError(f"{source}: {key} must be of type {wanted}. Got {value!r}.")
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{source}: {key} must be a number. Got {value!r}.")


def hint(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known word, or nothing where none is near."""
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), list(names), n=1, cutoff=0.4)
    return f" Did you mean {names[near[0]]!r}?" if near else ""


def _fits(value: Any, kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if kind in (int, float):
        return isinstance(value, numbers.Integral if kind is int else numbers.Real) and not isinstance(value, bool)
    if kind is str:
        return isinstance(value, (str, os.PathLike))
    plain = origin or kind
    if plain is tuple:
        return isinstance(value, (list, tuple))
    if plain in (list, Sequence):
        return _fits_sequence(value, arguments[0] if arguments else Any)
    if plain is type or plain is Callable:
        return inspect.isclass(value) if plain is type else callable(value)
    return isinstance(value, plain) if inspect.isclass(plain) and plain is not Any else True


def _fits_sequence(value: Any, item_kind: Any) -> bool:
    """Tell whether every item fits; items may be sequences of such items, for vectors of several dimensions."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.kind in "fiu"
    return isinstance(value, (list, tuple)) and all(
        _fits(item, item_kind) or _fits_sequence(item, item_kind) for item in value
    )
