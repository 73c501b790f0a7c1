"""Exceptions of the package: one base class, one subclass for each contract that a caller may want to catch."""

import difflib
from collections.abc import Iterable

__all__ = [
    "CacheError",
    "ConfigError",
    "DataError",
    "FusionEnvError",
    "MissingRequirementsError",
    "SnapshotError",
    "TeacherError",
    "UnknownNameError",
    "UnknownSettingError",
    "unknown_name",
    "unknown_setting",
]


class FusionEnvError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(FusionEnvError, ValueError):
    """A setting is out of range or contradicts another one."""


class DataError(FusionEnvError, ValueError):
    """An image or a folder of images cannot be used."""


class MissingRequirementsError(FusionEnvError):
    """Weights or data that a configuration needs are not there."""


class TeacherError(FusionEnvError, ValueError):
    """A teacher returned what is no fused image."""


class SnapshotError(FusionEnvError):
    """A snapshot does not fit the environment that should load it."""


class CacheError(FusionEnvError):
    """The cache directory cannot exist: a part of its path is a file."""


class UnknownNameError(FusionEnvError, ValueError):
    """A name (teacher, metric, preset, ...) is not registered."""


class UnknownSettingError(UnknownNameError, TypeError):
    """A keyword is not a setting; also a `TypeError`, as Python raises for unexpected keyword arguments."""


def unknown_setting(name: str, known: Iterable[str]) -> UnknownSettingError:
    """Build the error for a keyword that is not a setting, in the words of `unknown_name` and of Python."""
    return UnknownSettingError(f"{unknown_name('setting', name, known)} (unexpected keyword argument {name!r})")


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a misspelt name.

    Args:
        kind: What the name stands for, such as ``"teacher"``.
        name: The name received.
        known: Every valid name.

    Returns:
        An error to raise; its message suggests the nearest valid name and lists all of them.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.0)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(choices)}")
