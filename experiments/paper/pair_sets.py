"""The pairs that methods are compared on: the paper's test sets, or what is at hand of them and procedural scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.command_line import progress_bar
from experiments.paper.order import Order
from fusion_env.data import ImagePair, PairedFolder, PairSource, ProceduralScenes, data_sets, load_pair, named
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.data.verify import verify
from fusion_env.errors import ConfigError, DataError, MissingRequirementsError
from student.console import printable

__all__ = ["PairSet", "check_copy", "open_set", "ordered_sets", "procedural"]

PAPER_SETS = ("m3fd-fusion", "tno", "msrs-test")
"""What the paper tests on: 300 pairs of M3FD, TNO, and the test split of MSRS."""
DEMO_SETS = ("m3fd", "tno", "msrs", "roadscene")
DEMO_PAIRS = 10
"""So many scenes, and at most so many real pairs of each set, are in the demo."""
SCENE_SIZE = (192, 256)

_WRONG = {"unpaired", "twice", "damaged", "size", "colour", "lossy", "changed"}
"""Faults of a copy that would make the numbers others than those of the data set."""
_NIGHT = "N"
"""Last letter of the names of MSRS's night pairs."""
_SHOWN_FAULTS = 5


@dataclass(frozen=True)
class PairSet:
    """Pairs to compare methods on.

    Attributes:
        name: Of the folder of its results, and of its table.
        source: The pairs.
        indices: Which of them.
        published: The paper's name for the data set, where the paper has numbers for it.
        parts: Names of some of its pairs that have a table of their own as well, by what they have in common.
    """

    name: str
    source: PairSource
    indices: tuple[int, ...]
    published: str = ""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def pair(self, index: int) -> ImagePair:
        """Load one of its pairs, by its index in the source."""
        return load_pair(self.source, index)

    @property
    def middle(self) -> int:
        """The index of the middle one of its pairs, for pictures."""
        return self.indices[len(self.indices) // 2]

    def pixels(self, index: int) -> int:
        """Return how many pixels a pair has."""
        height, width = self.source.sizes[index]
        return height * width


def ordered_sets(order: Order) -> list[PairSet]:
    """Return what an order is carried out on, checked.

    Raises:
        MissingRequirementsError: The preset is ``paper`` and a data set is not there.
        ConfigError: The folder of the data sets holds none of them.
        DataError: A copy has faults that change the numbers.
    """
    if order.preset == "paper":
        return _paper_sets(order.data_root, order.most)
    made = [procedural(), *(procedural(condition) for condition in ("fog", "night"))]
    if order.data_root is None:
        return made
    found = [name for name in DEMO_SETS if (order.data_root / name).is_dir()]
    if not found:
        raise ConfigError(f"--data-root {order.data_root} holds none of the folders {', '.join(DEMO_SETS)}")
    most = DEMO_PAIRS if order.most is None else order.most
    return [*made, *(open_set(name, order.data_root / name, most=most) for name in found)]


def _paper_sets(root: Path | None, most: int | None) -> list[PairSet]:
    folders = {name: (root or Path()) / data_sets.get(name).folder for name in PAPER_SETS}
    missing = [f"{data_sets.get(name).title} in {folder}" for name, folder in folders.items() if not folder.is_dir()]
    if missing:
        raise MissingRequirementsError(
            f"the paper's test sets are not on disk: {'; '.join(missing)}. Set --data-root to the folder that holds "
            "them (docs/guide/named-data-sets.md); the preset demo needs none"
        )
    return [open_set(name, folder, most=most, partial=False) for name, folder in folders.items()]


def procedural(condition: str | None = None, count: int = DEMO_PAIRS) -> PairSet:
    """Return procedural scenes that nothing was trained on: as they come, or all in fog or at night."""
    scenes = ProceduralScenes(count, *SCENE_SIZE, scene_seed("report"), condition)
    name = f"procedural-{condition}" if condition else "procedural"
    return PairSet(name, scenes, tuple(range(count)))


def open_set(text: str, root: Path | None = None, *, most: int | None = None, partial: bool = True) -> PairSet:
    """Open a published data set by its name, or a folder of pairs.

    Taken are the pairs that the set itself sets aside for reports (``val.txt``, a published test split), else all.

    Args:
        text: Name of a published data set, ``procedural``, ``procedural-fog`` or ``procedural-night``, or a folder.
        root: Where the published data set lies; None: in a folder of its name.
        most: Take at most so many pairs, evenly spaced in the order of their names.
        partial: Whether a copy may lack pairs.

    Raises:
        ConfigError: `most` is less than 1.
        DataError: The folder cannot be used, or a copy has faults that change the numbers.
    """
    if most is not None and most < 1:
        raise ConfigError(f"at least one pair of each set must be taken. Got {most}")
    if text.partition("-")[0] == "procedural":
        return procedural(text.partition("-")[2] or None, most or DEMO_PAIRS)
    if text not in data_sets:
        folder = PairedFolder(text)
        return PairSet(folder.name, folder, _reported(folder, most))
    data_set = data_sets.get(text)
    root = Path(data_set.folder) if root is None else root
    check_copy(text, root, partial)
    source = named(text, root)
    indices = _reported(source, most)
    at_night = [source.names[index] for index in indices if source.names[index].endswith(_NIGHT)]
    parts = {"night": at_night} if data_set.folder == "msrs" and 0 < len(at_night) < len(indices) else {}
    return PairSet(text, source, indices, data_set.title.partition(" ")[0], parts)


def _reported(source: PairSource, most: int | None) -> tuple[int, ...]:
    names = (source.split_names or {}).get("val", source.names)
    place = {name: index for index, name in enumerate(source.names)}
    indices = sorted(place[name] for name in names)
    if most is None or most >= len(indices):
        return tuple(indices)
    return tuple(indices[number * len(indices) // most] for number in range(most))


def check_copy(name: str, root: Path, partial: bool) -> None:
    """Read every file of a published data set, so that none is found damaged after hours of work.

    Raises:
        DataError: The copy has faults that change the numbers; without `partial`, missing pairs are among them.
    """
    verdict = verify(name, root, partial=partial, progress=progress_bar)
    wrong = [fault for fault in verdict.faults if fault.kind in _WRONG | ({"missing"} if not partial else set())]
    if wrong:
        shown = "; ".join(f"{fault.path}: {fault.told}" for fault in wrong[:_SHOWN_FAULTS])
        raise DataError(
            printable(f"{name} in {root} has {len(wrong)} faults that change the numbers: {shown}. ")
            + f"`python -m fusion_env.data verify {name} {root}` lists all"
        )
    print(f"{name}: {sum(verdict.pairs.values())} pairs in {printable(str(root))}, no file of them damaged")
