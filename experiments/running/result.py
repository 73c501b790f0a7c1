"""What a run came to, as JSON: written whole or not at all, and named where it is damaged."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fusion_env.errors import ConfigError
from student.files import write_atomic

__all__ = ["read_result", "write_result"]


def write_result(path: Path, content: Any) -> None:
    """Write a file that `read_result` reads."""
    write_atomic(path, json.dumps(content, indent=2).encode())


def read_result(path: Path, kind: type, keys: Collection[str] = ()) -> Any:
    """Read a file that `write_result` wrote.

    Args:
        path: The file.
        kind: What it must hold, `dict` or `list` (of mappings).
        keys: What the mapping, or each one of the list, must have.

    Raises:
        ConfigError: It is damaged.
    """
    try:
        content = json.loads(path.read_text())
        entries = content if isinstance(content, list) else [content]
        if not isinstance(content, kind) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"it holds no {'list of mappings' if kind is list else 'mapping'}")
        missing = [key for key in keys if any(key not in entry for entry in entries)]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}): delete it, and the run goes on without it") from error
    return content
