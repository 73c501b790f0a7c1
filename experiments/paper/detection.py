"""Table 2: what a detector makes of the fused images of each method, and how much of a difference is chance."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.benchmarking.uncertainty import interquartile_mean, interval
from experiments.command_line import progress_bar
from experiments.output import markdown_table, write_csv, write_text
from experiments.paper.detection_images import LabelledSource, parts_of, write_images
from experiments.paper.detection_training import (
    ARCHITECTURE,
    MEASURES,
    Recipe,
    Training,
    check_installed,
    train_detector,
)
from experiments.paper.ledger import Ledger, Piece, Row, work_through
from experiments.paper.methods import Method, ordered_methods
from experiments.paper.order import Order
from experiments.paper.page import head
from experiments.paper.published import published
from fusion_env.data import NamedSet, data_sets, missing_source, named
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError, MissingRequirementsError
from fusion_env.task import resolve_device
from student.console import printable

__all__ = ["DATA", "RECIPES", "detection", "labelled_pairs", "make", "results_table", "seed_noise", "seeds_needed"]

DATA = "m3fd-detection"
"""What the paper detects on: the 4,200 labelled pairs of M3FD."""

RECIPES = {"demo": Recipe(epochs=20, image_size=256, batch=8), "paper": Recipe(epochs=100, image_size=640, batch=16)}

_SEEDS = (0, 1, 2)
_SCENES = SplitScenes(200, 192, 256)
_PAPERS_DIFFERENCE = 0.01
_NORMAL = 1.96


def make(order: Order) -> Path:
    """Compare the methods of an order: on M3FD with the preset ``paper``, on procedural scenes in the demo.

    Raises:
        MissingRequirementsError: Ultralytics or, for the paper, M3FD is missing.
    """
    return detection(
        ordered_methods(order),
        labelled_pairs(DATA, (order.data_root or Path()) / "m3fd") if order.preset == "paper" else _SCENES,
        RECIPES[order.preset],
        order.seeds or _SEEDS,
        order.folder("table2"),
        device=order.device,
        threads=order.threads,
        command=order.command,
    )


def labelled_pairs(name: str, root: Path | None = None) -> NamedSet:
    """Open a published data set with boxes.

    Args:
        name: Such as `DATA`.
        root: Where it lies; None: in a folder of its name.

    Raises:
        MissingRequirementsError: It is not there.
        FusionEnvError: There is none of this name, or it cannot be used.
    """
    folder = root or Path(data_sets.get(name).folder)
    missing = missing_source(name, str(folder))
    if missing:
        raise MissingRequirementsError(
            f"{missing} is not in {folder}: set --data-root to where it lies (docs/guide/named-data-sets.md); "
            "procedural scenes need none"
        )
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
        ConfigError: The source has no boxes or lists, two methods share a name, or `out` is of other settings.
    """
    check_installed()
    parts = parts_of(source)
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ConfigError(f"methods must have different names. Got {', '.join(names)}")
    images = out / "images"

    def fuse() -> list[Row]:
        return [{"boxes": write_images(source, parts, methods, images, progress_bar)}]

    def test(method: Method, seed: int) -> list[Row]:
        folder, device_name = out / "detectors" / f"{method.name}-{seed}", str(resolve_device(device))
        training = Training(images / method.name / "data.yaml", folder, recipe, seed, device_name, used_threads)
        start = time.perf_counter()
        measured = train_detector(training)
        return [{"method": method.name, "seed": seed, **measured, "seconds": time.perf_counter() - start}]

    used_threads = threads or torch.get_num_threads()
    made_of = ", ".join(f"{method.name}: {method.origin}" for method in methods)
    pieces = [Piece(f"images of {made_of}", fuse, len(methods) * sum(map(len, parts.values())))]
    # Seeds before methods: what is there when it is stopped early compares all methods.
    pieces += [
        Piece(
            f"{method.name}, seed {seed}: {method.origin}",
            partial(test, method, seed),
            recipe.epochs * len(parts["train"]),
        )
        for seed in seeds
        for method in methods
    ]
    settings = {"pairs": f"{source.name} ({source.fingerprint()})", "recipe": vars(recipe)}
    fused, *rows = work_through(pieces, Ledger(out / "ledger.jsonl", settings))
    write_csv(out / "raw.csv", rows)
    page = out / "table2.md"
    counted = f"{len(parts['train'])} training and {len(parts['test'])} test images with {fused['boxes']} boxes"
    write_text(page, _page(rows, methods, f"{source.name}: {counted}", recipe, command))
    return page


def results_table(rows: Sequence[Row]) -> str:
    """Compare the methods as Markdown, in the order of their first rows.

    Args:
        rows: Rows of ``raw.csv``: `method`, `seed` and each of `MEASURES`.

    Returns:
        Means over the seeds with 95 % bootstrap intervals; the differences to the first method, of detectors with one
        seed, likewise; and what one seed more or less does to a number.
    """
    names = list(dict.fromkeys(row["method"] for row in rows))
    header = ["method", "n", *MEASURES.values(), *(f"{title}, difference to {names[0]}" for title in MEASURES.values())]
    lines = []
    for name in names:
        scores = [_by_seed(rows, name, measure) for measure in MEASURES]
        first = [_by_seed(rows, names[0], measure) for measure in MEASURES]
        pairs = [
            np.array([own[seed] - other[seed] for seed in own if seed in other])
            for own, other in zip(scores, first, strict=True)
        ]
        cells = [_estimate(np.array(list(own.values()))) for own in scores]
        lines.append([name, len(scores[0]), *cells, *("-" if name == names[0] else _estimate(pair) for pair in pairs)])
    noise = ["*deviation between seeds*", "", *(f"{seed_noise(rows, measure):.3f}" for measure in MEASURES), *[""] * 3]
    return markdown_table(header, [*lines, noise])


def seed_noise(rows: Sequence[Row], measure: str) -> float:
    """Return the standard deviation between seeds, pooled over the methods; NaN with one seed each."""
    groups = [list(_by_seed(rows, name, measure).values()) for name in {row["method"] for row in rows}]
    degrees = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.sum((np.array(group) - np.mean(group)) ** 2)) for group in groups)
    return float(np.sqrt(squares / degrees)) if degrees else float("nan")


def seeds_needed(noise: float, difference: float) -> int:
    """Return how many seeds for each method make the 95 % interval of a difference as narrow as plus or minus itself.

    >>> seeds_needed(0.01, difference=0.01)
    8
    """
    return int(np.ceil(2 * (_NORMAL * noise / difference) ** 2))


def _page(rows: Sequence[Row], methods: Sequence[Method], pairs: str, recipe: Recipe, command: str) -> str:
    noise = {title: seed_noise(rows, measure) for measure, title in MEASURES.items()}
    needed = ", ".join(f"{seeds_needed(value, _PAPERS_DIFFERENCE)} for {title}" for title, value in noise.items())
    parts = [
        *head("Table 2: object detection on fused images", command, sum(row["seconds"] for row in rows)),
        f"{pairs}. Detectors: {Path(ARCHITECTURE).stem} from nothing, {recipe.epochs} epochs of images of "
        f"{recipe.image_size} pixels in batches of {recipe.batch}, alike for all methods. The detector after the last "
        "epoch is tested: no image chooses when to stop.",
        results_table(rows),
        "Means over the seeds with 95 % bootstrap intervals, which are too narrow for few seeds; a difference is taken "
        "between detectors of one seed, which begin with the same weights and see the pairs in the same order.",
        f"The paper's methods differ by about {_PAPERS_DIFFERENCE}. With the deviation seen here, the 95 % interval of "
        f"a difference is as narrow as that with so many seeds for each method: {needed}."
        if np.isfinite(list(noise.values())).all()
        else "One seed each: how far chance moves these numbers is not known.",
        _published_table(),
        "What each detector sees, with the labelled boxes above and those found below:",
        *(f"![{method.name}](detectors/{method.name}-{rows[0]['seed']}/boxes.png)" for method in methods),
        "\n".join(f"- {method.name}: {printable(method.origin)}" for method in methods),
    ]
    return "\n\n".join(parts) + "\n"


def _published_table() -> str:
    """Write the paper's numbers."""
    numbers = published(2)
    if not numbers:
        return (
            "The paper's own numbers are not at hand; rows for table 2 in `experiments/paper/published.csv` stand here."
        )
    names = list(dict.fromkeys(method for _, method, _ in numbers))
    data = next(iter(numbers))[0]
    lines = [[name, *(numbers.get((data, name, measure), "-") for measure in MEASURES)] for name in names]
    return f"The paper's, on {data}:\n\n{markdown_table(['method', *MEASURES.values()], lines)}"


def _by_seed(rows: Sequence[Row], method: str, measure: str) -> dict[int, float]:
    return {row["seed"]: row[measure] for row in rows if row["method"] == method}


def _estimate(values: NDArray[np.float64]) -> str:
    return f"{interval(interquartile_mean, [values]):.3f}" if len(values) > 1 else f"{values.mean():.3f}"
