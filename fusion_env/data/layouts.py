"""The data sets with a name: how their makers lay them out, and what is published in each of their folders."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fusion_env.registry import Registry

__all__ = ["LISTS", "DataSet", "Labels", "Part", "data_sets", "read_lines"]

LISTS = Path(__file__).parent / "lists"
"""Names and checksums of published files. No pictures."""


def read_lines(name: str) -> list[str]:
    """Read a file of `LISTS`, without its comments."""
    return [line for line in (LISTS / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


@dataclass(frozen=True)
class Labels:
    """What is labelled in the images of a data set.

    Attributes:
        kind: ``"boxes"`` (VOC or YOLO, see `fusion_env.data.labels`) or ``"mask"``.
        classes: Names of the classes, in the order of their numbers.
        folders: Names that their folder may have, in lower case.
    """

    kind: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One of the folders of pairs that a data set is published in.

    Attributes:
        name: What its pairs are called by.
        folders: Names that its folder may have, in lower case.
        pairs: Number of pairs published.
        stems: Pattern of the names of its files.
        split: Which split its pairs are of: ``"train"``, ``"val"`` (the report), or none.
        listed: File of `LISTS` with those pairs that are of this split.
        rest: Which split the others are of.
        names: All names published, where they are known.
        labelled: Whether the labels are of this part, too.
    """

    name: str
    folders: tuple[str, ...] = ()
    pairs: int | None = None
    stems: str = ".*"
    split: str = ""
    listed: str = ""
    rest: str = ""
    names: frozenset[str] = frozenset()
    labelled: bool = True


@dataclass(frozen=True)
class DataSet:
    """What is published under a name.

    Attributes:
        name: The name.
        title: Its makers' name for it, and where they publish it.
        parts: Its folders of pairs.
        folder: Name of its own folder, where nobody says where it lies.
        own_sides: Names of the makers for the folders of infrared and visible images, beside the usual ones.
        size: Height and width of every image in pixels; None if they differ.
        lossless: Whether it is published in formats without loss.
        coloured: Whether its visible images have colours.
        labels: What is labelled, or None.
        pair_files: Paths of the infrared and visible file of each pair, where they do not lie in two folders.
        checksums: File of `LISTS` with SHA-256 sums of published files.
        keep: Pattern of the names that a choice is made of; empty for all.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    folder: str
    own_sides: tuple[str, str] | None = None
    size: tuple[int, int] | None = None
    lossless: bool = True
    coloured: bool = True
    labels: Labels | None = None
    pair_files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    checksums: str = ""
    keep: str = ""

    def chosen(self, what: str, keep: str) -> "DataSet":
        """Return a choice of its pairs by their names; how many there are is not published."""
        parts = tuple(dataclasses.replace(part, pairs=None) for part in self.parts)
        return dataclasses.replace(self, name=f"{self.name}-{what}", parts=parts, keep=keep)

    @property
    def pairs(self) -> int | None:
        """Number of pairs published, or None if that is not known."""
        if self.pair_files:
            return len(self.pair_files)
        counts = [part.pairs for part in self.parts]
        return None if None in counts else sum(filter(None, counts))


data_sets: Registry[DataSet] = Registry("data set", "a DataSet", lambda member: isinstance(member, DataSet))
"""Data sets by name, and parts of them."""


def _register(data_set: DataSet) -> None:
    data_sets.register(data_set.name)(data_set)


def _register_parts(whole: DataSet) -> None:
    """Register a data set and each of its parts as a data set of its own."""
    _register(whole)
    for part in whole.parts:
        labels = whole.labels if part.labelled else None
        # On its own, a listed part is split into its list and what a model is tested on.
        alone = dataclasses.replace(part, rest="val") if part.listed else dataclasses.replace(part, split="")
        _register(dataclasses.replace(whole, name=f"{whole.name}-{part.name}", parts=(alone,), labels=labels))


def _tno_files() -> dict[str, tuple[str, str]]:
    rows = [line.split("\t") for line in read_lines("tno.tsv")[1:]]
    return {name: (ir, vis) for name, ir, vis in rows}


def _train_and_test(train: int, test: int, stems: str) -> tuple[Part, ...]:
    return (
        Part("train", ("train",), train, stems, split="train"),
        Part("test", ("test", "val"), test, stems, split="val"),
    )


_register_parts(
    DataSet(
        "m3fd",
        "M3FD (published at github.com/JinyuanLiu-CV/TarDAL)",
        (
            Part(
                "detection",
                ("m3fd_detection", "detection"),
                4200,
                r"\d{5}",
                split="train",
                listed="m3fd_train.txt",
                rest="reward",
                names=frozenset(f"{number:05d}" for number in range(4200)),
            ),
            Part("fusion", ("m3fd_fusion", "fusion"), 300, r"\d+", split="val", labelled=False),
        ),
        "m3fd",
        size=(768, 1024),
        labels=Labels(
            "boxes",
            ("People", "Car", "Bus", "Lamp", "Motorcycle", "Truck"),
            ("annotation", "annotations", "labels", "label"),
        ),
    )
)

_register_parts(
    DataSet(
        "msrs",
        "MSRS (published at github.com/Linfeng-Tang/MSRS)",
        _train_and_test(1083, 361, r"\d{5}[DN]"),
        "msrs",
        size=(480, 640),
        labels=Labels(
            "mask",
            ("unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "colour cone", "bump"),
            ("segmentation_labels", "label", "labels"),
        ),
    )
)
for _whole in ("msrs", "msrs-test"):
    _register(data_sets.get(_whole).chosen("day", ".*D"))
    _register(data_sets.get(_whole).chosen("night", ".*N"))

_register_parts(
    DataSet(
        "llvip",
        "LLVIP (published at bupt-ai-cz.github.io/LLVIP)",
        _train_and_test(12025, 3463, r"\d{6}"),
        "llvip",
        size=(1024, 1280),
        lossless=False,
        labels=Labels("boxes", ("person",), ("annotations", "annotation", "labels")),
    )
)
_register_parts(
    DataSet(
        "fmb",
        "FMB (published at github.com/JinyuanLiu-CV/SegMiF)",
        _train_and_test(1220, 280, r"\d{5}"),
        "fmb",
        size=(600, 800),
        labels=Labels(
            "mask",
            (
                *("background", "road", "sidewalk", "building", "lamp", "sign", "vegetation", "sky", "person", "car"),
                *("truck", "bus", "motorcycle", "bicycle", "pole"),
            ),
            ("label", "labels"),
        ),
    )
)
_register(
    DataSet(
        "roadscene",
        "RoadScene (published at github.com/hanna-xu/RoadScene)",
        (Part("all", pairs=221, stems=r"FLIR_(video_)?\d{5}"),),
        "roadscene",
        own_sides=("cropinfrared", "crop_lr_visible"),
        lossless=False,
        checksums="roadscene.sha256",
    )
)
_register(
    DataSet(
        "tno",
        "TNO (published at figshare, DOI 10.6084/m9.figshare.1008029)",
        (Part("all"),),
        "tno",
        coloured=False,
        pair_files=_tno_files(),
    )
)
