"""Fused images with the boxes of their pairs, in the folders that a YOLO detector reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from experiments.output import write_text
from experiments.paper.methods import Method
from fusion_env.data import Box, NamedSet, ProceduralScenes, load_pair, write_png
from fusion_env.data.pairs import joint_error
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError, DataError

__all__ = ["PARTS", "LabelledSource", "check_boxes", "label_lines", "parts_of", "write_lists", "write_pair"]

PARTS = ("train", "test")
"""What a detector learns from, and what it is tested on."""


LabelledSource = NamedSet | ProceduralScenes | SplitScenes
"""Pairs with boxes: what has `classes` and `boxes` beside what every `PairSource` has."""


def parts_of(source: LabelledSource) -> dict[str, tuple[int, ...]]:
    """Return the pairs that a detector learns from and those that it is tested on, by `PARTS`.

    The training list is learnt from; the lists for reward and report together are tested on, since neither chooses
    anything here.

    Raises:
        ConfigError: The source has no boxes or no lists.
    """
    if not source.classes:
        raise ConfigError(f"{source.name} has no boxes: detection needs m3fd-detection, llvip or procedural scenes")
    if source.split_names is None:
        raise ConfigError(
            f"{source.name} has no lists of pairs for training and testing: give it train.txt and val.txt"
        )
    position = {name: index for index, name in enumerate(source.names)}
    learnt = {position[name] for name in source.split_names["train"]}
    listed = {position[name] for names in source.split_names.values() for name in names}
    return {"train": tuple(sorted(learnt)), "test": tuple(sorted(listed - learnt))}


def check_boxes(source: LabelledSource, parts: Mapping[str, Sequence[int]]) -> None:
    """Read the boxes of all pairs.

    Raises:
        DataError: Those of some cannot be used: one error for all of them.
    """
    problems = []
    for index in (index for indices in parts.values() for index in indices):
        try:
            source.boxes(index)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise joint_error(f"cannot use the boxes of {source.name}", problems)


def write_pair(source: LabelledSource, part: str, index: int, methods: Sequence[Method], folder: Path) -> int:
    """Write what each method makes of a pair, with the pair's boxes.

    Args:
        source: Pairs with boxes.
        part: One of `PARTS`.
        index: Of the pair.
        methods: Each gets a folder of its name, with ``images/`` and ``labels/``.
        folder: Where.

    Returns:
        Number of boxes.
    """
    pair, boxes = load_pair(source, index), source.boxes(index)
    lines = label_lines(boxes, source.classes, source.sizes[index])
    for method in methods:
        root = folder / method.name
        write_png(root / _image(part, pair.name), method.fuse(source.name, pair))
        write_text(root / "labels" / part / f"{pair.name}.txt", lines)
    return len(boxes)


def write_lists(
    source: LabelledSource, parts: Mapping[str, Sequence[int]], methods: Sequence[Method], folder: Path
) -> None:
    """Write, for each method, ``data.yaml`` and the lists of its images: others in the folders do not count."""
    for method in methods:
        root = folder / method.name
        for part, indices in parts.items():
            write_text(root / f"{part}.txt", "".join(f"./{_image(part, source.names[index])}\n" for index in indices))
        told = {"path": str(root.absolute()), "train": "train.txt", "val": "test.txt"}
        write_text(root / "data.yaml", yaml.safe_dump({**told, "names": dict(enumerate(source.classes))}))


def _image(part: str, name: str) -> str:
    return f"images/{part}/{name}.png"


def label_lines(boxes: Sequence[Box], classes: Sequence[str], size: tuple[int, int]) -> str:
    r"""Write boxes as YOLO does: a line each, number of the class, centre, width and height as fractions of the image.

    >>> label_lines([Box("car", 10, 20, 30, 60)], ("person", "car"), (100, 200))
    '1 0.1 0.4 0.1 0.4\n'
    """
    height, width = size
    lines = []
    for box in boxes:
        across, down = (box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height
        numbers = (across, down, (box.right - box.left) / width, (box.bottom - box.top) / height)
        lines.append(" ".join([str(list(classes).index(box.label)), *(f"{number:.8g}" for number in numbers)]))
    return "".join(f"{line}\n" for line in lines)
