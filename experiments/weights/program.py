"""The command of a script that trains an embedded network: train it and write its card, or measure the stored one."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch

from experiments.output import print_or_write, write_text
from experiments.weights.images import Lumas, load_lumas
from fusion_env import teachers
from fusion_env.data.folder import PairedFolder
from fusion_env.data.procedural import SCENE_VERSION, ProceduralScenes
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.perception.embedded_features import EmbeddedFeatures
from fusion_env.perception.embedded_quality import EmbeddedQuality
from student.weights import save_state

__all__ = ["Program", "run_program"]

TRAIN_SCENES, TRAIN_SIZE = 320, (160, 192)
HELD_OUT_SCENES, HELD_OUT_SIZE, HELD_OUT_SEED = 24, (192, 256), scene_seed("embedded check")
FOLDER_PAIRS = 20

N = TypeVar("N", EmbeddedFeatures, EmbeddedQuality)


@dataclass(frozen=True)
class Program(Generic[N]):
    """One training script.

    Attributes:
        asset: Stem of the weights and of the card; the script is ``train_`` and this.
        title: Name of the network.
        about: What the network is and how it is trained, for the card.
        iterations: Default number of training steps.
        train: Trains on images for so many iterations from a seed.
        load: Loads weights from a file, or the package's own from None.
        measure: Tabulates the quality of a network on images.
    """

    asset: str
    title: str
    about: str
    iterations: int
    train: Callable[[Lumas, int, int], N]
    load: Callable[[Path | None], N]
    measure: Callable[[N, Lumas], str]

    @property
    def command(self) -> str:
        """How the script is called."""
        return f"python experiments/weights/train_{self.asset}.py"


def run_program(program: Program[N], arguments: Sequence[str] | None = None) -> int:
    """Train, or measure the stored weights, as the command line says.

    Args:
        program: The script's own part.
        arguments: The command line without the program's name; that of the process without it.

    Returns:
        Exit status: 0.
    """
    options = _parse(program, arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if not options.evaluate:
        _train(program, options)
        return 0
    network = program.load(None)
    sections = [f"### Held-out procedural scenes\n\n{program.measure(network, _held_out())}"]
    for folder in options.data:
        source = PairedFolder(folder, minimum_size=HELD_OUT_SIZE[0], small_images="reflect")
        indices, which = _chosen_pairs(source)
        measured = program.measure(network, load_lumas(source, indices, ("average", "laplacian", "teacher")))
        sections.append(f"### {source.name}, {which}\n\n{measured}")
    folders = f" --data {' '.join(map(str, options.data))}" if options.data else ""
    body = f"Weights `{network.fingerprint()}`; `{program.command} --evaluate{folders}`.\n\n" + "\n\n".join(sections)
    if options.report is not None:
        body = _with_section(options.report, program.title, body)
    print_or_write(body, options.report)
    return 0


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


def _chosen_pairs(source: PairedFolder) -> tuple[list[int], str]:
    """Return the validation pairs of a folder, or `FOLDER_PAIRS` spread over one without lists, and what they are."""
    if source.split_names is not None:
        names = source.split_names["val"]
        return [source.names.index(name) for name in names], f"the {len(names)} pairs of val.txt"
    indices = np.linspace(0, len(source) - 1, min(FOLDER_PAIRS, len(source))).round().astype(int).tolist()
    return indices, f"{len(indices)} of {len(source)} pairs"


def _train(program: Program[N], options: argparse.Namespace) -> None:
    source = ProceduralScenes(TRAIN_SCENES, *TRAIN_SIZE, scene_seed("embedded", options.seed))
    lumas = load_lumas(source, range(len(source)))
    network = program.train(lumas, options.iterations, options.seed)
    weights = options.out / f"{program.asset}.safetensors"
    save_state(network.state_dict(), weights, half=True)
    stored = program.load(weights)
    kinds = list(lumas)
    if "teacher" in kinds:
        kinds[kinds.index("teacher")] = f"teacher `{teachers.load('embedded').fingerprint()}`"
    write_text(options.out / f"{program.asset}.md", _card(program, options, stored, kinds))


def _card(program: Program[N], options: argparse.Namespace, stored: N, kinds: Sequence[str]) -> str:
    command = f"{program.command} --out fusion_env/assets --seed {options.seed}"
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


def _with_section(path: Path, title: str, body: str) -> str:
    """Return a Markdown file's text with the section ``## title`` replaced, or appended; the rest stays."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Embedded networks, as measured\n"
    first, *sections = text.rstrip("\n").split("\n\n## ")
    kept = [section for section in sections if not section.startswith(f"{title}\n")]
    return "\n\n## ".join([first, *kept, f"{title}\n\n{body.strip()}"]) + "\n"
