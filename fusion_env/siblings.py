"""The packages with generic names that belong to this distribution: are they the ones that Python finds?"""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["check_sibling"]


def check_sibling(name: str, module: str) -> None:
    """Check that a top-level package is this distribution's, before anything of it is used.

    Args:
        name: Such as ``"student"``.
        module: A module of it from which its ``__init__`` imports.

    Raises:
        ImportError: A file or folder of the same name hides it, or another distribution has overwritten it.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"the package {name!r}, which fusion-env brings, is not there: install fusion-env again")
    found, ours = Path(spec.origin).resolve(), Path(__file__).resolve().parents[1] / name / "__init__.py"
    if found != ours:
        raise ImportError(
            f"'import {name}' finds {found}, which hides the package of fusion-env ({ours.parent}): rename it, start "
            "Python in another folder, or use an environment of its own for fusion-env"
        )
    if f"from {name}.{module} import" not in found.read_text(encoding="utf-8"):
        raise ImportError(
            f"{found} is not fusion-env's: another distribution with a package {name!r} has overwritten it. Use an "
            "environment of its own for fusion-env"
        )
