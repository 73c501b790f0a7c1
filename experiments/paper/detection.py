"""Table 2: what a detector makes of the fused images of each method."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from experiments.output import write_csv, write_text
from experiments.paper.detection_images import LabelledSource, check_boxes, parts_of, write_lists, write_pair
from experiments.paper.detection_page import detection_page
from experiments.paper.detection_training import Recipe, Training, check_installed, train_detector
from experiments.paper.ledger import Ledger, Piece, Row, logged, work_through
from experiments.paper.methods import Method, ordered_methods
from experiments.paper.order import Order
from experiments.paper.pair_sets import check_copy
from fusion_env.data import NamedSet, data_sets, missing_source, named
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError, MissingRequirementsError
from fusion_env.task import resolve_device

__all__ = ["DATA", "RECIPES", "detection", "labelled_pairs", "make"]

DATA = "m3fd-detection"
"""What the paper detects on: the 4,200 labelled pairs of M3FD."""

RECIPES = {"demo": Recipe(epochs=20, image_size=256, batch=8), "paper": Recipe(epochs=100, image_size=640, batch=16)}

_SEEDS = (0, 1, 2)
_SCENES = SplitScenes(200, 192, 256)


def make(order: Order) -> Path:
    """Compare the methods of an order: on M3FD with the preset ``paper``, on procedural scenes in the demo.

    Raises:
        MissingRequirementsError: Ultralytics or, for the paper, M3FD is missing.
    """
    return detection(
        ordered_methods(order),
        labelled_pairs(DATA, (order.data_root or Path()) / "m3fd", partial=False)
        if order.preset == "paper"
        else _SCENES,
        RECIPES[order.preset],
        order.seeds or _SEEDS,
        order.folder("table2"),
        device=order.device,
        threads=order.threads,
        command=order.command,
    )


def labelled_pairs(name: str, root: Path | None = None, *, partial: bool = True) -> NamedSet:
    """Open a published data set with boxes, checked.

    Args:
        name: Such as `DATA`.
        root: Where it lies; None: in a folder of its name.
        partial: Whether the copy may lack pairs.

    Raises:
        MissingRequirementsError: It is not there, or Ultralytics is not.
        FusionEnvError: There is none of this name, or it cannot be used.
    """
    folder = root or Path(data_sets.get(name).folder)
    missing = missing_source(name, str(folder))
    if missing:
        raise MissingRequirementsError(
            f"{missing} is not in {folder}: set --data-root to where it lies (docs/guide/named-data-sets.md); "
            "procedural scenes need none"
        )
    check_installed()  # before minutes of reading
    check_copy(name, folder, partial)
    return named(name, folder)


def detection(
    methods: Sequence[Method],
    source: LabelledSource,
    recipe: Recipe,
    seeds: Sequence[int],
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    command: str = "experiments.paper.detection.detection(...)",
) -> Path:
    """Train a detector on the fused images of each method with each seed, all of them alike, and test it.

    Args:
        methods: What is compared.
        source: Pairs with boxes and lists for training and testing.
        recipe: How the detectors are trained.
        seeds: Of the detectors.
        out: For ``raw.csv``, ``table2.md``, the images and the detectors; what is done is not repeated.
        device: Where the detectors are trained.
        threads: CPU threads; None: PyTorch's.
        command: How it was called, for the page.

    Returns:
        The page.

    Raises:
        MissingRequirementsError: Ultralytics is missing.
        ConfigError: The source has no boxes or lists, two methods share a name, a seed is given twice, or `out` is of
            other settings.
    """
    check_installed()
    parts = parts_of(source)
    if isinstance(source, NamedSet):  # a scene's boxes are always there, and have to be rendered
        check_boxes(source, parts)
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ConfigError(f"methods must have different names. Got {', '.join(names)}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must name each once. Got {tuple(seeds)}")
    settings = {"pairs": f"{source.name} ({source.fingerprint()})", "recipe": vars(recipe)}
    ledger = Ledger(out / "ledger.jsonl", settings)
    images = out / "images"
    write_lists(source, parts, methods, images)
    machine = str(resolve_device(device)), threads or torch.get_num_threads()
    made_of = ", ".join(f"{method.name}: {method.origin}" for method in methods)
    fusing = [
        Piece(f"{part} {source.names[i]}, {made_of}", partial(_fused, source, part, i, methods, images), kind="pairs")
        for part, indices in parts.items()
        for i in indices
    ]
    detecting = []
    for seed in seeds:  # outside: what is there when it is stopped early compares all methods
        for method in methods:
            data, folder = images / method.name / "data.yaml", out / "detectors" / f"{method.name}-{seed}"
            work = partial(_tested, method.name, Training(data, folder, recipe, seed, *machine))
            share = partial(logged, folder / "training" / "results.csv", recipe.epochs)
            detecting.append(Piece(f"{method.name}, seed {seed}: {method.origin}", work, kind="detectors", share=share))
    done = work_through([*fusing, *detecting], ledger)
    fused, rows = done[: len(fusing)], done[len(fusing) :]
    write_csv(out / "raw.csv", rows)
    boxes = sum(row["boxes"] for row in fused)
    pairs = f"{source.name}: {len(parts['train'])} training and {len(parts['test'])} test images with {boxes} boxes"
    write_text(out / "table2.md", detection_page(rows, methods, pairs, recipe, command))
    return out / "table2.md"


def _fused(source: LabelledSource, part: str, index: int, methods: Sequence[Method], folder: Path) -> list[Row]:
    return [{"boxes": write_pair(source, part, index, methods, folder)}]


def _tested(method: str, training: Training) -> list[Row]:
    start = time.perf_counter()
    measured = train_detector(training)
    return [{"method": method, "seed": training.seed, **measured, "seconds": time.perf_counter() - start}]
