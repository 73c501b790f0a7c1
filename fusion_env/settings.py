"""Dataclasses whose fields explain and check themselves: what every group of settings is made of."""

import sys
from collections.abc import Collection
from dataclasses import Field, dataclass, field, fields
from typing import Any, get_args

from fusion_env.errors import ConfigError

__all__ = ["Settings", "range_of", "setting", "shown", "type_name"]

_LONGEST_SHOWN = 200


def setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a field of `Settings`.

    Args:
        default: Its default.
        text: One sentence, also its command-line help.
        low: Least value.
        high: Greatest value.
        choices: All values.
    """
    return field(default=default, metadata={"help": text, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Base of the groups of settings; it checks types, ranges and combinations when it is made.

    Groups are combined by inheritance. The fields of the last base come first.

    Raises:
        ConfigError: A value has the wrong type, is out of range, or contradicts another one.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Raise a `ConfigError` where settings contradict each other; every override calls its parent's."""

    def without(self, names: Collection[str]) -> dict[str, Any]:
        """Return all settings but some, for `fusion_env.cache.content_key`.

        A key names what it leaves out and not what it holds, so that it holds whatever is added later.
        """
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in names}


def type_name(item: Field) -> str:
    """Return a field's type as text, such as ``"int | None"`` or ``"tuple[str, ...]"``."""
    kind = item.type
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def range_of(item: Field) -> str:
    """Return a field's range as text, such as ``"at least 1"``; empty where it has none."""
    low, high = item.metadata["low"], item.metadata["high"]
    if low is None and high is None:
        return ""
    return f"at least {low}" if high is None else f"at most {high}" if low is None else f"in {low}..{high}"


def _checked(item: Field, value: Any) -> Any:
    """Return `value` in the field's type, or say what is wrong with it."""
    kind = type_name(item)
    if value is None:
        if "None" in kind:
            return None
        raise ConfigError(f"{item.name} must not be None")
    value = _converted(item.name, kind, value)
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise ConfigError(f"{item.name} must be one of {', '.join(choices)}. Got {shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"{item.name} must be {range_of(item)}. Got {shown(value)}")
    return value


def _converted(name: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple"):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list. Got {shown(value)}")
        member = "float" if "float" in kind else "str"
        return tuple(_converted(name, member, part) for part in value)
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind.startswith("int"):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind.startswith("float"):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
    elif isinstance(value, str) and value and "\0" not in value:
        return value
    raise ConfigError(f"{name} must be of type {kind}. Got {shown(value)}")


def shown(value: object) -> str:
    """Return a value for an error message: it may come from anywhere, be very long or refuse to be written out."""
    try:
        text = repr(value)
    except Exception:  # such as an integer of too many digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
