"""Do settings have the types that the constructors announce?"""

import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["check_types", "setting_types"]


def setting_types(found: type) -> dict[str, Any]:
    """Collect the annotations of a class's constructor by argument, those of its bases included."""
    collected: dict[str, Any] = {}
    for base in found.__mro__:
        if "__init__" in vars(base):
            collected = _hints(base.__init__) | collected
    return collected


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # written for a type checker only
        return {}


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
