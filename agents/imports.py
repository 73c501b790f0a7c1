"""Policies by import path: ``"package.module:Name"`` or ``"path/to/file.py:Name"``."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from agents.spelling import hint

__all__ = ["is_import_path", "load_object"]


def is_import_path(name: str) -> bool:
    """Tell whether a name is an import path rather than the name of an algorithm."""
    return ":" in name


def load_object(path: str) -> Callable[..., Any]:
    """Import a class or function. This runs the module's code.

    Args:
        path: ``"package.module:Name"`` or ``"path/to/file.py:Name"``; the name may have dots.

    Raises:
        ValueError: The module, the file or the name does not exist, or the name is nothing that can be called.
    """
    source, _, qualified_name = path.rpartition(":")
    found: Any = _load_file(source) if source.endswith(".py") else _load_module(source)
    for name in qualified_name.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{source} has no {name!r}.{hint(name, vars(found))} (From {path!r}.)")
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"{path!r} must be a class or a function. It is a {type(found).__name__}.")
    return found


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that exists and lacks a requirement of its own is another mistake than a misspelt one.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"there is no module {name!r} to import a policy from. "
            "Write 'package.module:Name' or 'path/to/file.py:Name'."
        ) from error


def _load_file(name: str) -> ModuleType:
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {path} to import a policy from. Write 'path/to/file.py:Name'.")
    # Pickling and dataclasses look a class's module up by name; two files of one name are two modules.
    module_name = f"_policy_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        sys.modules[module_name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module_name])
        except BaseException:
            del sys.modules[module_name]
            raise
    return sys.modules[module_name]
