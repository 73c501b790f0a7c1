"""Find the fused images of several methods and their sources, and check every one before anything is scored."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion_env.data import Progress, no_progress, read_infrared, read_luma, read_visible
from fusion_env.data.images import as_data_error
from fusion_env.errors import ConfigError, DataError
from student.console import counted, printable
from student.images import Pixels
from student.listing import by_stem, match_names, match_sides
from student.sixteen_bit import Scale

__all__ = ["ComparedImages", "ImageFiles", "find_images", "refuse_as_output"]

_AS_STATED = Scale()
_SHOWN_NAMES = 3


@dataclass(frozen=True)
class ImageFiles:
    """The files of one pair: infrared, visible, and by method the fused ones."""

    ir: Path
    vis: Path
    fused: Mapping[str, Path]


@dataclass(frozen=True)
class ComparedImages:
    """Fused images of several methods over the same pairs, all readable and of their pair's size."""

    methods: tuple[str, ...]
    """In the order given."""
    files: Mapping[str, ImageFiles]
    """By name of the pair, sorted."""
    left_out: Mapping[str, tuple[str, ...]]
    """Pairs that are not compared, each with what is wrong with its files; empty unless that was allowed."""
    unused: Mapping[str, tuple[str, ...]]
    """By method the names of fused images for which there is no pair; methods without such images are absent."""
    scale: Scale = _AS_STATED
    """How the values of 16-bit files become levels."""


def find_images(
    fused: Mapping[str, str | Path],
    *,
    ir: str | Path,
    vis: str | Path,
    minimum_size: int = 1,
    allow_missing: bool = False,
    scale: Scale = _AS_STATED,
    progress: Progress = no_progress,
) -> ComparedImages:
    """Pair images by name, as `student.listing` says, and decode every file once to check it.

    Args:
        fused: Folders of fused images by name of the method.
        ir: Folder of infrared images.
        vis: Folder of visible images.
        minimum_size: Smallest height and width in pixels that the metrics need.
        allow_missing: Leave out pairs with a file that is missing or unusable, for all methods alike, instead of
            refusing to compare.
        scale: How the values of 16-bit files become levels.
        progress: Progress display over the pairs.

    Raises:
        ConfigError: If there is no method.
        DataError: If a folder is missing or holds no images; if files are missing, share a name, cannot be read, or
            have not their pair's size, in which case the message lists every one of them, one a line; or if no pair is
            left to compare.
    """
    if not fused:
        raise ConfigError("fused must name at least one folder of fused images. Got none")
    folders = {"ir": Path(ir), "vis": Path(vis), **{f"fused {name}": Path(path) for name, path in fused.items()}}
    listings = {side: _by_stem(folder) for side, folder in folders.items()}
    listings["ir"], listings["vis"] = match_sides(ir=listings["ir"], vis=listings["vis"])
    names = sorted(listings["ir"].keys() | listings["vis"].keys())
    listings |= {side: match_names(listings[side], names) for side in folders if side not in ("ir", "vis")}
    problems: dict[str, tuple[str, ...]] = {}
    for index in progress(range(len(names)), "checking the images"):
        found = _check(names[index], folders, listings, minimum_size, scale)
        if found:
            problems[names[index]] = found
    unused = {name: tuple(sorted(listings[f"fused {name}"].keys() - set(names))) for name in fused}
    unused = {name: stems for name, stems in unused.items() if stems}
    if problems and not allow_missing:
        whole = (
            "  (evaluate's allow_missing, on its command line --allow-missing, compares the pairs that are complete)"
        )
        advice = whole if len(problems) < len(names) else ""
        raise DataError(_message("cannot compare these images", problems, unused, advice))
    files = {
        name: ImageFiles(
            listings["ir"][name][0],
            listings["vis"][name][0],
            {method: listings[f"fused {method}"][name][0] for method in fused},
        )
        for name in names
        if name not in problems
    }
    if not files:
        raise DataError(_message("no pair is usable for all methods", problems, unused))
    return ComparedImages(tuple(fused), files, problems, unused, scale)


def refuse_as_output(out: Path, folders: Iterable[Path]) -> None:
    """Refuse to write results between images, of which they would soon be one, or replace one.

    Raises:
        ConfigError: The folder for results is one of these.
    """
    for folder in folders:
        if out.exists() and folder.exists() and out.samefile(folder):
            raise ConfigError(f"{out} is a folder of images to compare; choose another --out")


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """List the image files of a folder by name without extension."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    with as_data_error():
        files = by_stem(folder)
    if not files:
        raise DataError(f"{folder}: no images")
    return files


def _check(
    name: str,
    folders: Mapping[str, Path],
    listings: Mapping[str, dict[str, list[Path]]],
    minimum_size: int,
    scale: Scale,
) -> tuple[str, ...]:
    """Return what is wrong with the files of one pair, one line each."""
    readers: dict[str, Callable[[Path, Scale], Pixels]] = {"ir": read_infrared, "vis": read_visible}
    problems: list[str] = []
    sizes: dict[str, tuple[int, ...]] = {}
    for side, folder in folders.items():
        files = listings[side].get(name, [])
        if not files:
            problems.append(f"{folder}: no image called {name!r}")
        elif len(files) > 1:
            problems.append(f"{folder}: {' and '.join(path.name for path in files)} have the same name")
        else:
            try:
                sizes[side] = readers.get(side, read_luma)(files[0], scale).shape[:2]
            except DataError as error:
                problems.append(str(error))
    return tuple(printable(line) for line in (*problems, *_size_problems(sizes, listings, name, minimum_size)))


def _size_problems(
    sizes: Mapping[str, tuple[int, ...]],
    listings: Mapping[str, dict[str, list[Path]]],
    name: str,
    minimum_size: int,
) -> list[str]:
    """Compare sizes with the visible image's, or with the infrared one's where there is no visible image."""
    reference = next((side for side in ("vis", "ir") if side in sizes), None)
    if reference is None:
        return []
    height, width = sizes[reference]
    problems = [
        f"{listings[side][name][0]}: {size[0]} x {size[1]} pixels (height x width), "
        f"but {listings[reference][name][0]} has {height} x {width}"
        for side, size in sizes.items()
        if size != (height, width)
    ]
    if min(height, width) < minimum_size:
        path = listings[reference][name][0]
        problems.append(f"{path}: {height} x {width} pixels; the metrics need sides of {minimum_size} or more")
    return problems


def _message(
    title: str, problems: Mapping[str, tuple[str, ...]], unused: Mapping[str, tuple[str, ...]], advice: str = ""
) -> str:
    lines = [f"  {line}" for found in problems.values() for line in found]
    hints = [
        f"  ({method} has {len(stems)} images that belong to no pair: {_some(stems)})"
        for method, stems in unused.items()
    ]
    return "\n".join([f"{title} ({counted(len(lines), 'problem')}):", *lines, *hints, *filter(None, [advice])])


def _some(stems: tuple[str, ...]) -> str:
    more = ", ..." if len(stems) > _SHOWN_NAMES else ""
    return printable(", ".join(stems[:_SHOWN_NAMES])) + more
