"""What a run came to, as JSON: written whole or not at all, and named where it is damaged."""

import json
from pathlib import Path
from typing import Any

from fusion_env.errors import ConfigError
from student.checkpoint import write_atomic

__all__ = ["read_result", "write_result"]


def write_result(path: Path, content: Any) -> None:
    """Write a file that `read_result` reads."""
    write_atomic(path, json.dumps(content, indent=2).encode())


def read_result(path: Path, kind: type) -> Any:
    """Read a file that `write_result` wrote.

    Args:
        path: The file.
        kind: What it must hold, `dict` or `list`.

    Raises:
        ConfigError: It is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}): delete it, and the run goes on without it") from error
    if not isinstance(content, kind):
        raise ConfigError(f"{path} is damaged (it holds a {type(content).__name__}): delete it, and the run goes on")
    return content
