"""What the training scripts of both embedded networks share: images, their changes, tables, and the program itself."""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fusion_env import teachers
from fusion_env.data import PairSource
from fusion_env.data.colour import luma_levels
from fusion_env.data.folder import PairedFolder
from fusion_env.data.procedural import SCENE_VERSION, ProceduralScenes
from fusion_env.errors import MissingRequirementsError
from fusion_env.perception.embedded_features import EmbeddedFeatures
from fusion_env.perception.embedded_quality import EmbeddedQuality
from student.files import write_atomic
from student.weights import save_state

__all__ = [
    "FUSIONS",
    "Image",
    "Lumas",
    "Program",
    "add_noise",
    "compress",
    "gaussian_blur",
    "load_lumas",
    "markdown_table",
    "median_ms",
    "run_program",
    "scale_contrast",
    "spearman",
    "to_batch",
]

TRAIN_SCENES, TRAIN_SIZE = 320, (160, 192)
HELD_OUT_SCENES, HELD_OUT_SIZE, HELD_OUT_SEED = 24, (192, 256), 900_000
FOLDER_PAIRS = 20

Image = NDArray[np.float32]
"""One luma image, [H, W] in 0..1."""

Lumas = Mapping[str, list[Image]]
"""Lists of equal length by kind of image; index i is the same scene in all of them."""

FUSIONS = ("average", "maximum", "laplacian", "teacher")
"""Fused images that `load_lumas` makes; ``teacher`` only where the package has its weights."""


def load_lumas(source: PairSource, indices: Iterable[int], fusions: Sequence[str] = FUSIONS) -> Lumas:
    """Load infrared and visible luma and fuse each pair in several ways.

    Args:
        source: Image pairs.
        indices: Which pairs.
        fusions: Which of `FUSIONS`.

    Returns:
        Images under ``"ir"``, ``"vis"`` and the fusions that can be made.
    """
    fusers = {}
    if "laplacian" in fusions:
        fusers["laplacian"] = teachers.load("laplacian")
    if "teacher" in fusions:
        # The teacher is itself trained by a script; without it the networks see the classical fusions only.
        with contextlib.suppress(MissingRequirementsError):
            fusers["teacher"] = teachers.load("embedded")
    classical = {"average": lambda ir, vis: (ir + vis) / 2, "maximum": np.maximum}
    lumas: dict[str, list[Image]] = {"ir": [], "vis": []}
    for index in indices:
        pair = source.load(index)
        ir, vis = (levels[0].numpy().astype(np.float32) / 255 for levels in (pair.ir, luma_levels(pair.vis)))
        lumas["ir"].append(ir)
        lumas["vis"].append(vis)
        for name in fusions:
            if name in classical:
                lumas.setdefault(name, []).append(classical[name](ir, vis))
            elif name in fusers:
                lumas.setdefault(name, []).append(fusers[name].fuse_pair(pair)[0].numpy().copy())
    return lumas


def gaussian_blur(image: Image, sigma_px: float) -> Image:
    """Blur with a Gaussian of the given standard deviation; border reflected."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def compress(image: Image, quality: int) -> Image:
    """Encode and decode with JPEG, quality 1 to 100."""
    levels = np.floor(image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255


def add_noise(image: Image, noise: Image, std: float) -> Image:
    """Add ``std`` times a standard normal field and clip."""
    return (image + np.float32(std) * noise).clip(0, 1)


def scale_contrast(image: Image, factor: float) -> Image:
    """Scale the distance from the image's mean and clip."""
    mean = image.mean()
    return (mean + np.float32(factor) * (image - mean)).clip(0, 1)


def to_batch(images: Sequence[Image]) -> torch.Tensor:
    """Stack images of one size to float32 [B, 1, H, W]."""
    return torch.from_numpy(np.stack(images)[:, None].astype(np.float32, copy=False))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute the rank correlation; ties get their mean rank, and a constant sequence counts as 0."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    """Lay out a table; numbers get three decimals."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell if isinstance(cell, str) else f"{cell:.3f}" for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def median_ms(function: Callable[[], object], repeats: int = 30) -> float:
    """Time a call on one thread: median of ``repeats`` after three to warm up, in milliseconds."""
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(repeats + 3):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 1e3 * float(np.median(seconds[3:]))


N = TypeVar("N", EmbeddedFeatures, EmbeddedQuality)


@dataclass(frozen=True)
class Program(Generic[N]):
    """One training script.

    Attributes:
        script: File name of the script.
        asset: Stem of the weights and of the card.
        title: Name of the network.
        about: What the network is and how it is trained, for the card.
        iterations: Default number of training steps.
        train: Trains on images for so many iterations from a seed.
        load: Loads weights from a file, or the package's own from None.
        measure: Tabulates the quality of a network on images.
    """

    script: str
    asset: str
    title: str
    about: str
    iterations: int
    train: Callable[[Lumas, int, int], N]
    load: Callable[[Path | None], N]
    measure: Callable[[N, Lumas], str]


def run_program(program: Program[N], arguments: Sequence[str] | None = None) -> None:
    """Train, or measure the stored weights, as the command line says.

    Args:
        program: The script's own part.
        arguments: The command line without the program's name; that of the process without it.
    """
    options = _parse(program, arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if not options.evaluate:
        _train(program, options)
        return
    network = program.load(None)
    sections = [f"### Held-out procedural scenes\n\n{program.measure(network, _held_out())}"]
    for folder in options.data:
        source = PairedFolder(folder, minimum_size=HELD_OUT_SIZE[0], small_images="reflect")
        indices = np.linspace(0, len(source) - 1, min(FOLDER_PAIRS, len(source))).round().astype(int)
        measured = program.measure(network, load_lumas(source, indices.tolist(), ("average", "laplacian")))
        sections.append(f"### {source.name}, {len(indices)} of {len(source)} pairs\n\n{measured}")
    folders = f" --data {' '.join(map(str, options.data))}" if options.data else ""
    command = f"`python experiments/{program.script} --evaluate{folders}"
    body = f"Weights `{network.fingerprint()}`; {command}`.\n\n" + "\n\n".join(sections)
    if options.report is None:
        print(body)
    else:
        _write_section(options.report, program.title, body)


def _parse(program: Program[N], arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Train or measure the {program.title.lower()}.")
    parser.add_argument("--out", type=Path, help="train, and write weights and card into this folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes, initial weights and draws")
    parser.add_argument("--iterations", type=int, default=program.iterations, help="training steps")
    parser.add_argument("--evaluate", action="store_true", help="measure the stored weights instead of training")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="with --evaluate: folders of image pairs too")
    parser.add_argument("--report", type=Path, help="with --evaluate: Markdown file to update instead of printing")
    options = parser.parse_args(arguments)
    if options.evaluate == (options.out is not None):
        parser.error("give either --out FOLDER to train, or --evaluate")
    if options.iterations < 2:
        parser.error(f"--iterations must be at least 2. Got {options.iterations}")
    return options


def _held_out() -> Lumas:
    source = ProceduralScenes(HELD_OUT_SCENES, *HELD_OUT_SIZE, HELD_OUT_SEED)
    return load_lumas(source, range(len(source)))


def _train(program: Program[N], options: argparse.Namespace) -> None:
    source = ProceduralScenes(TRAIN_SCENES, *TRAIN_SIZE, options.seed)
    lumas = load_lumas(source, range(len(source)))
    network = program.train(lumas, options.iterations, options.seed)
    weights = options.out / f"{program.asset}.safetensors"
    save_state(network.state_dict(), weights, half=True)
    stored = program.load(weights)
    kinds = list(lumas)
    if "teacher" in kinds:
        kinds[kinds.index("teacher")] = f"teacher `{teachers.load('embedded').fingerprint()}`"
    write_atomic(options.out / f"{program.asset}.md", _card(program, options, stored, kinds).encode())


def _card(program: Program[N], options: argparse.Namespace, stored: N, kinds: Sequence[str]) -> str:
    command = f"python experiments/{program.script} --out fusion_env/assets --seed {options.seed}"
    parameters = sum(parameter.numel() for parameter in stored.parameters())
    return f"""# {program.title}

{program.about}

- Weights: `{program.asset}.safetensors`, float16, {parameters} parameters, fingerprint `{stored.fingerprint()}`.
- Data: {TRAIN_SCENES} procedural scenes of {TRAIN_SIZE[1]}x{TRAIN_SIZE[0]} (version {SCENE_VERSION},
  seed {options.seed}), as {", ".join(kinds)};
  no real image was used.
- Command: `{command} --iterations {options.iterations}`
- Licence: Apache-2.0, as the package.

## Measured on the stored file

{HELD_OUT_SCENES} procedural scenes of {HELD_OUT_SIZE[1]}x{HELD_OUT_SIZE[0]} that were not trained on (seed
{HELD_OUT_SEED}). Real image pairs: docs/reference/embedded-networks.md.

{program.measure(stored, _held_out())}
"""


def _write_section(path: Path, title: str, body: str) -> None:
    """Replace the section ``## title`` of a Markdown file, or append it; the rest of the file stays."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Embedded networks, as measured\n"
    first, *sections = text.rstrip("\n").split("\n\n## ")
    kept = [section for section in sections if not section.startswith(f"{title}\n")]
    write_atomic(path, ("\n\n## ".join([first, *kept, f"{title}\n\n{body.strip()}"]) + "\n").encode())
