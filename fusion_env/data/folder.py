"""A data set on disk: ``ir/NAME`` and ``vi/NAME`` belong together."""

import difflib
import os
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from fusion_env.data.images import as_data_error
from fusion_env.data.pair_files import PairFiles, Reading, match_folders
from fusion_env.data.pairs import joint_error
from fusion_env.errors import DataError
from student import listing
from student.console import printable
from student.listing import INFRARED, VISIBLE
from student.sixteen_bit import Scale

__all__ = ["PairedFolder", "find_sides", "read_split_lists"]

# Names of a million files; what is larger is something else.
_MAX_LIST_BYTES = 16 * 1024 * 1024
_SHOWN_CHARACTERS = 100
_AS_STATED = Scale()


class PairedFolder(PairFiles):
    """Serve the image pairs of a folder.

    Layout::

        ROOT/ir/00001.png     or infrared/ (case does not matter, so Ir/ and Vis/ are fine)
        ROOT/vi/00001.jpg     or vis/ or visible/
        ROOT/train.txt        optional, together with val.txt
        ROOT/val.txt
        ROOT/reward.txt       optional beside them

    Files pair up by stem, case-sensitively; extensions may differ, the content decides the format (see
    `student.images`). If no stem is on both sides, marks of the side are left out first: ``ir/IR_01.png`` and
    ``vi/VIS_01.png``, or ``01-infrared`` and ``01-visible``, are the pair ``01``. Hidden files, subfolders, other
    folders of ROOT (such as ``labels``) and side files (text, tables, ``Thumbs.db``) are ignored; any other file must
    be an image (see `student.listing`). Symbolic links are followed. Pairs are ordered by name.

    Building the object reads headers only and reports every problem at once. Corrupt pixel data shows when a pair is
    loaded; `verify` looks for it in all files.

    The lists hold one name per line, with or without mark and extension; blank lines and lines that start with ``#``
    are ignored. Pairs in none of them are not used by `fusion_env.data.make_splits`, which says what each is for.

    Args:
        root: Folder as above.
        small_images: What happens to pairs with a side shorter than `minimum_size`: ``"error"``, or ``"reflect"`` to
            enlarge them to it by reflection at the bottom and the right, where no coordinate changes.
        minimum_size: Shortest side in pixels that the user of the images needs, at least 1.
        scale: How the values of 16-bit files become levels.

    Attributes:
        root: The folder.
        name: The folder's own name.
        names: Names of the pairs, sorted.
        sizes: Height and width of each pair as `load` returns it, that is after EXIF rotation and enlargement.
        split_names: ``{"train": (...), "val": (...)}`` from the lists, with ``"reward"`` where there is one; None
            without them.

    Raises:
        ConfigError: If `small_images` or `minimum_size` is out of range.
        DataError: If the folder is missing or empty, files have no partner or share a stem, headers cannot be read,
            sizes differ within a pair, pairs are too small, or a list is wrong: one error for all of it.
    """

    def __init__(
        self, root: str | Path, small_images: str = "error", minimum_size: int = 1, scale: Scale = _AS_STATED
    ) -> None:
        reading = Reading(small_images, minimum_size, scale)
        root = Path(os.path.expanduser(root))
        problems: list[str] = []
        paired = match_folders(*find_sides(root), problems)
        super().__init__(root, paired, reading, problems)
        self.split_names = read_split_lists(root, paired, problems)
        if problems:
            raise joint_error(f"cannot use the image pairs in {root}", problems)


def find_sides(root: Path) -> tuple[Path, Path]:
    """Return the infrared and the visible folder.

    Raises:
        DataError: If `root` does not hold one of each; says what is near.
    """
    if not os.path.isdir(root):
        reason = "is a file, not a folder" if os.path.exists(root) else _missing_folder(root)
        raise DataError(printable(f"{root}: {reason}"))
    inside = _subfolders(root)
    found = []
    for side, names in (("infrared", INFRARED), ("visible", VISIBLE)):
        folders = [folder for folder in inside if folder.name.casefold() in names]
        if len(folders) > 1:
            listed = ", ".join(folder.name for folder in folders)
            raise DataError(printable(f"{root}: several folders for {side} images ({listed}); keep one"))
        if not folders:
            near = [folder for folder in (root.parent, *inside) if _has_sides(folder)]
            hint = f" Did you mean {near[0]}?" if near else ""
            wanted = ", ".join(name + "/" for name in names)
            raise DataError(printable(f"{root}: no folder for {side} images (one of {wanted}).{hint}"))
        found.append(folders[0])
    return found[0], found[1]


def _missing_folder(root: Path) -> str:
    parent = next(folder for folder in root.absolute().parents if os.path.isdir(folder))
    if parent != root.absolute().parent:
        return f"no such folder ({parent} exists, nothing below it on this path does)"
    near = difflib.get_close_matches(root.name, [folder.name for folder in _neighbours(parent)], n=1)
    return "no such folder." + (f" Did you mean {parent / near[0]}?" if near else "")


def _has_sides(folder: Path) -> bool:
    names = {entry.name.casefold() for entry in _neighbours(folder)}
    return bool(names & set(INFRARED) and names & set(VISIBLE))


def _neighbours(folder: Path) -> list[Path]:
    """List the subfolders of a folder for a hint: one that cannot be listed has none."""
    try:
        return _subfolders(folder)
    except DataError:
        return []


def _subfolders(folder: Path) -> list[Path]:
    with as_data_error():
        return listing.list_folder(folder)[0]


def read_split_lists(
    root: Path, paired: Mapping[str, tuple[Path, Path]], problems: list[str]
) -> dict[str, tuple[str, ...]] | None:
    """Read ``train.txt``, ``val.txt`` and ``reward.txt`` where a folder has them.

    Args:
        root: The folder.
        paired: Its pairs; their names may stand in a list, and those of their files.
        problems: Takes what is wrong with the lists.
    """
    known = {file.stem: name for name, files in paired.items() for file in files} | {name: name for name in paired}
    files = {part: root / f"{part}.txt" for part in ("train", "val", "reward")}
    present = [part for part, file in files.items() if os.path.lexists(file)]
    if not present:
        return None
    missing = [f"{part}.txt" for part in ("train", "val") if part not in present]
    if missing:
        problems.append(
            f"{', '.join(f'{part}.txt' for part in present)} without {' and '.join(missing)}; train.txt and val.txt "
            "belong together, and reward.txt to both"
        )
    names = {part: _read_list(files[part], known, problems) for part in present}
    for first, second in combinations(present, 2):
        for name in sorted(set(names[first]) & set(names[second])):
            problems.append(f"{name} is listed in {first}.txt and in {second}.txt")
    return names


def _read_list(file: Path, known: Mapping[str, str], problems: list[str]) -> tuple[str, ...]:
    """Read a list of names and return the pairs meant; `known` maps everything that may stand there to a pair."""
    if not os.path.isfile(file):
        problems.append(f"{file.name} is not a regular file")
        return ()
    try:
        if file.stat().st_size > _MAX_LIST_BYTES:
            problems.append(f"{file.name} is larger than {_MAX_LIST_BYTES >> 20} MiB, which is no list of names")
            return ()
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file.name} cannot be read as UTF-8 text, {error}")
        return ()
    entries = [line for line in lines if line and not line.startswith("#")]
    found = [known.get(entry) or known.get(entry.rpartition(".")[0]) for entry in entries]
    unknown = [entry for entry, name in zip(entries, found, strict=True) if not name]
    problems += [f"{file.name} lists {_shortened(entry)!r}, which is no pair" for entry in unknown]
    names = [name for name in found if name]
    problems += [f"{file.name} lists {name!r} {n} times" for name, n in Counter(names).items() if n > 1]
    if not entries:
        problems.append(f"{file.name} lists nothing")
    return tuple(names)


def _shortened(entry: str) -> str:
    return entry if len(entry) <= _SHOWN_CHARACTERS else f"{entry[:_SHOWN_CHARACTERS]}..."
