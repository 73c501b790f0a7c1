"""Image pairs by name: procedural scenes, published data sets, or any folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fusion_env.data.folder import PairedFolder
from fusion_env.data.layouts import data_sets
from fusion_env.data.named_set import named
from fusion_env.data.pairs import PairSource
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError, DataError, MissingRequirementsError, unknown_name
from fusion_env.registry import Registry
from student.sixteen_bit import Scale

__all__ = ["SourceSettings", "absolute_data", "missing_source", "open_source", "sources"]


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
        root: Where a published data set lies; None = in a folder of its name.
        conditions: Conditions of the procedural scenes for training, which take turns; none = drawn for each.
        test_conditions: Those of the scenes for reward and report.
    """

    scenes: int
    scene_height: int
    scene_width: int
    seed: int
    small_images: str
    minimum_size: int
    scale: Scale = field(default_factory=Scale)
    root: str | None = None
    conditions: tuple[str, ...] = ()
    test_conditions: tuple[str, ...] = ()


sources: Registry[Callable[[SourceSettings], PairSource]] = Registry("data source")
"""What opens the pairs, by name; every other text is taken for a folder."""


def open_source(name: str, settings: SourceSettings) -> PairSource:
    """Open image pairs.

    Args:
        name: One of ``sources.names()``, or a folder as `PairedFolder` takes it.
        settings: What decides the pairs beside the name.

    Raises:
        MissingRequirementsError: If it names a published data set that is not on disk.
        ConfigError: If `settings.root` is given for a name or a folder that has no use for it.
        DataError: If the folder cannot be used; the message suggests the nearest name for a text without a folder.
        TypeError: If what is registered under the name makes no `PairSource`.
    """
    if settings.root is not None and (name == "procedural" or name not in sources):
        raise ConfigError(
            f"data_root={settings.root!r} is where a published data set lies. Got data={name!r}; the published ones "
            f"are {', '.join(data_sets.names())}"
        )
    if name not in sources:
        return _open_other(name, settings)
    source = sources.get(name)(settings)
    if not isinstance(source, PairSource):
        raise TypeError(
            f"data source {name!r}: what is registered must return a fusion_env.data.PairSource. "
            f"Got {type(source).__name__}."
        )
    return source


def absolute_data(name: str, root: str | None) -> tuple[str, str | None]:
    """Return name and root such that `open_source` opens the same folder in every working directory."""
    folder = _root(name, root) if name in data_sets else Path(name).expanduser()
    if (name in sources and name not in data_sets) or not folder.is_dir():
        return name, root
    return (name, str(folder.absolute())) if name in data_sets else (str(folder.absolute()), root)


def missing_source(name: str, root: str | None = None) -> str | None:
    """Say, before any work, which published data set `open_source` would not find.

    Returns:
        What is missing and where its makers publish it; None if nothing is, or if only opening can tell.
    """
    return data_sets.get(name).title if name in data_sets and not _root(name, root).is_dir() else None


def _root(name: str, root: str | None) -> Path:
    return Path(data_sets.get(name).folder if root is None else root).expanduser()


@sources.register("procedural")
def _open_scenes(settings: SourceSettings) -> PairSource:
    return SplitScenes(
        settings.scenes,
        settings.scene_height,
        settings.scene_width,
        settings.seed,
        settings.conditions,
        settings.test_conditions,
    )


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
    root = _root(name, settings.root)
    missing = missing_source(name, settings.root)
    if missing:
        raise MissingRequirementsError(
            f"data={name!r}: {missing} is not on disk; set data=DIR to a folder with ir/ and vi/, or data_root to "
            f"where it lies as published (now {root})"
        )
    return named(name, root, settings.small_images, settings.minimum_size, settings.scale)


for _name in data_sets.names():
    sources.register(_name)(partial(_open_published, _name))
