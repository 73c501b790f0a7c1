"""Image pairs by name: procedural scenes, published data sets, or any folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fusion_env.data.folder import PairedFolder
from fusion_env.data.pairs import PairSource
from fusion_env.data.procedural import ProceduralScenes
from fusion_env.errors import DataError, MissingRequirementsError, unknown_name
from fusion_env.registry import Registry
from student.sixteen_bit import Scale

__all__ = ["SourceSettings", "absolute_data", "missing_source", "open_source", "sources"]

_PUBLISHED = {
    "m3fd": "M3FD (published at github.com/JinyuanLiu-CV/TarDAL)",
    "msrs": "MSRS (published at github.com/Linfeng-Tang/MSRS)",
    "roadscene": "RoadScene (published at github.com/hanna-xu/RoadScene)",
    "tno": "TNO (published at figshare, DOI 10.6084/m9.figshare.1008029)",
}


@dataclass(frozen=True)
class SourceSettings:
    """What decides the pairs beside the source's name; a source takes what concerns it.

    Attributes:
        scenes: Number of procedural scenes.
        scene_height: Their height in pixels.
        scene_width: Their width in pixels.
        seed: Seed of the scenes.
        small_images: What happens to a folder's pairs with a side shorter than `minimum_size`; see `PairedFolder`.
        minimum_size: Shortest side in pixels that the user of the images needs.
        scale: How the values of a folder's 16-bit files become levels.
    """

    scenes: int
    scene_height: int
    scene_width: int
    seed: int
    small_images: str
    minimum_size: int
    scale: Scale = field(default_factory=Scale)


sources: Registry[Callable[[SourceSettings], PairSource]] = Registry("data source")
"""What opens the pairs, by name; every other text is taken for a folder."""


def open_source(name: str, settings: SourceSettings) -> PairSource:
    """Open image pairs.

    Args:
        name: One of ``sources.names()``, or a folder as `PairedFolder` takes it.
        settings: What decides the pairs beside the name.

    Raises:
        MissingRequirementsError: If it names a published data set that is not on disk.
        DataError: If the folder cannot be used; the message suggests the nearest name for a text without a folder.
        TypeError: If what is registered under the name makes no `PairSource`.
    """
    if name not in sources:
        return _open_other(name, settings)
    source = sources.get(name)(settings)
    if not isinstance(source, PairSource):
        raise TypeError(
            f"data source {name!r}: what is registered must return a fusion_env.data.PairSource. "
            f"Got {type(source).__name__}."
        )
    return source


def absolute_data(name: str) -> str:
    """Return the absolute path of a folder that `open_source` would open; other names as they are."""
    folder = Path(name).expanduser()
    is_path = (name in _PUBLISHED or name not in sources) and folder.is_dir()
    return str(folder.absolute()) if is_path else name


def missing_source(name: str) -> str | None:
    """Say, before any work, which published data set `open_source` would not find.

    Returns:
        What is missing and where its makers publish it; None if nothing is, or if only opening can tell.
    """
    return _PUBLISHED[name] if name in _PUBLISHED and not Path(name).is_dir() else None


@sources.register("procedural")
def _open_scenes(settings: SourceSettings) -> PairSource:
    return ProceduralScenes(settings.scenes, settings.scene_height, settings.scene_width, settings.seed)


def _open_other(text: str, settings: SourceSettings) -> PairSource:
    """Open the folder that a text names, which may be a misspelt name as well."""
    folder = Path(text).expanduser()
    try:
        return _open_folder(text, settings)
    except DataError as error:
        if folder.exists() or folder.parent != Path():
            raise
        raise DataError(f"{error} Nor is it a name: {unknown_name('data source', text, sources.names())}") from error


def _open_folder(folder: str, settings: SourceSettings) -> PairSource:
    return PairedFolder(folder, settings.small_images, settings.minimum_size, settings.scale)


def _open_published(name: str, settings: SourceSettings) -> PairSource:
    """Open a published data set, which is expected in a folder of its name."""
    missing = missing_source(name)
    if missing:
        raise MissingRequirementsError(
            f"data={name!r}: {missing} is not on disk; set data=DIR to a folder with ir/ and vi/"
        )
    return _open_folder(name, settings)


for _name in _PUBLISHED:
    sources.register(_name)(partial(_open_published, _name))
