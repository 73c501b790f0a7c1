"""Files that come with the package, in `fusion_env/assets`."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from fusion_env.errors import MissingRequirementsError

__all__ = ["packaged"]


@contextmanager
def packaged(name: str) -> Iterator[Path]:
    """Give one of the package's own files as a file, also where the package is a zip archive.

    Raises:
        MissingRequirementsError: The package was installed without its assets.
    """
    asset = resources.files("fusion_env") / "assets" / name
    if not asset.is_file():
        raise MissingRequirementsError(f"{asset}, a part of this package, is missing; install the package again.")
    with resources.as_file(asset) as path:
        yield path
