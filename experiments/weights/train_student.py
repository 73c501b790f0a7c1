"""Train the package's own student for pictures: to the embedded teacher's images of scenes and textures.

    python experiments/weights/train_student.py --out runs/student
    python experiments/weights/train_student.py --out student/assets --evaluate --data DIR ...

The students of runs see procedural scenes as they are; pictures differ more than those do. So this one is trained on
the teacher's own pairs, seen by random cameras, and held to the teacher's image, to the visual information fidelity and
to the edges of both sources. The teacher takes longer than the student: each of its images serves several steps.
An interrupted training continues from its checkpoint beside the output.
"""

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from experiments.command_line import exit_on_error, make_parser
from experiments.output import markdown_table, write_text
from experiments.weights.beside_teacher import student_tables
from experiments.weights.train_teacher import (
    MARGIN,
    SCENES,
    TEXTURES,
    draw_shape,
    edge_preservation,
    objective,
    pictures,
    visual_information,
)
from experiments.weights.training import Checkpoint, as_options, fit, one_cycle
from experiments.weights.training_pairs import draw_batch
from fusion_env import teachers
from fusion_env.fingerprint import fingerprint
from fusion_env.stage0 import initial_student
from student import FusionStudent
from student.exposure import with_exposure_of
from student.weights import build_student, load_state, load_student, metadata_of, save_state

__all__ = ["main"]

CHECKPOINT_EVERY = 200
MEAN, DEVIATION, SMALLEST_DEVIATION = 0.45, 0.2, 0.02
"""Of the images that the student learns; levels of 0..1."""


@dataclass(frozen=True)
class Settings:
    """How the student is trained.

    Attributes:
        iterations: Steps of the optimiser.
        learning_rate: Its highest.
        small_until: Share of the teacher's images that are small; see `train_teacher.Settings`.
        fidelity_weight: Weight of the visual information fidelity to the sources.
        edge_weight: Weight of the edge preservation from the sources.
        uses: Steps for each new image of the teacher.
        window: Images of the teacher that a step chooses from, the newest.
        seed: Of the pictures and of all draws.
        threads: Of the processor.
    """

    iterations: int = 9000
    learning_rate: float = 8e-4
    small_until: float = 0.75
    fidelity_weight: float = 0.5
    edge_weight: float = 1.0
    uses: int = 8
    window: int = 400
    seed: int = 11
    threads: int = 1


def train(settings: Settings, start: Path | None, checkpoint: Path) -> FusionStudent:
    """Train from the weights in `start`, or those that runs start from; continue from `checkpoint` where it exists."""
    torch.set_num_threads(settings.threads)
    cv2.setNumThreads(settings.threads)
    teacher = teachers.load("embedded")
    weights = initial_student("embedded", teacher, 0) if start is None else load_state(start)
    student = build_student(weights, "the start" if start is None else str(start)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.learning_rate)
    schedule = one_cycle(optimiser, settings.iterations, warm_up=0.05)
    made_with = asdict(settings) | {"teacher": teacher.fingerprint(), "start": fingerprint("student", weights)}
    kept = Checkpoint(checkpoint, made_with, student, optimiser, schedule, CHECKPOINT_EVERY)
    done = kept.resume()
    scenes, textures = pictures(settings.seed)
    small_until = settings.small_until * settings.iterations / settings.uses

    @lru_cache(settings.window)
    def fused_by_teacher(number: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([settings.seed, 0, number])
        batch, size = draw_shape(number < small_until, rng)
        ir, vis = draw_batch(scenes, textures, size, batch, rng)
        with torch.no_grad():
            return ir, vis, _normalised(teacher.fuse_luma(ir=ir, vis=vis))

    def loss_at(iteration: int) -> Tensor:
        newest = iteration // settings.uses
        rng = np.random.default_rng([settings.seed, 1, iteration])
        oldest = max(0, newest - settings.window + 1)
        number = newest if iteration % settings.uses == 0 else int(rng.integers(oldest, newest + 1))
        ir, vis, target = fused_by_teacher(number)
        fused = student(ir=ir, vis=vis)
        shown = with_exposure_of(fused, ir=ir, vis=vis)
        fidelity, edges = (measure(shown, ir=ir, vis=vis) for measure in (visual_information, edge_preservation))
        return objective(fused, target) - settings.fidelity_weight * fidelity - settings.edge_weight * edges

    fit(student, optimiser, schedule, loss_at, "student", start=done, after_step=kept.keep)
    student.exposure_of_sources = True
    return student.eval()


def _normalised(target: Tensor) -> Tensor:
    """Bring images to one brightness and contrast: the student's output cannot depend on those of its inputs."""
    deviation, mean = torch.std_mean(target, dim=(1, 2, 3), keepdim=True)
    levels = MEAN + DEVIATION * (target - mean) / deviation.clamp_min(SMALLEST_DEVIATION)
    return levels.clamp(MARGIN, 1 - MARGIN)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--start", type=Path, help="weights to start from (default: those that runs start from)")
    parser.add_argument("--out", type=Path, default=Path("runs/student"), help="folder for the weights and their card")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the stored file")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of real pairs to evaluate on as well")
    for item in fields(Settings):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=item.type, default=item.default)
    args = parser.parse_args(arguments)
    settings = Settings(**{item.name: getattr(args, item.name) for item in fields(Settings)})
    path = args.out / "student.safetensors"
    if not args.evaluate:
        args.out.mkdir(parents=True, exist_ok=True)
        checkpoint = args.out / "student.checkpoint.pt"
        student = train(settings, args.start, checkpoint)
        save_state(student.state_dict(), path, half=True, metadata=metadata_of(student))
        checkpoint.unlink(missing_ok=True)
    table = student_tables(load_student(path), args.data)
    print(table)
    if not args.evaluate:
        write_text(args.out / "student.md", card(args.start, settings, table))
    return 0


def card(start: Path | None, settings: Settings, table: str) -> str:
    """Write the card that lies beside the weights."""
    beginning = "the student that runs start from (`start.safetensors`)" if start is None else f"`{start.name}`"
    given = f" --start {start.name}" if start else ""
    sizes = [", ".join(f"{count} of {height}x{width}" for count, height, width in kind) for kind in (SCENES, TEXTURES)]
    return f"""# student.safetensors

The student of `student.fuse` (0.652385 M parameters), stored as float16, loaded as float32. Trained towards the images
of the embedded teacher `{teachers.load("embedded").fingerprint()}`, on this project's own procedural scenes
({sizes[0]}) and texture pairs ({sizes[1]}), seen by random cameras;
no published weights and no real images are in it. Licence: Apache-2.0.

Command: `python experiments/weights/train_student.py --out student/assets{as_options(settings)}{given}`
(torch {torch.__version__}), from {beginning}.

{markdown_table(["setting", "value"], asdict(settings).items())}

Measured on this file (`python experiments/weights/train_student.py --evaluate --out student/assets [--data DIR ...]`);
higher is better for all metrics, VIF and SSIM are sums over both sources, E is the mean of VIF, IQA and SSIM as shares
of the teacher's:

{table}
"""


if __name__ == "__main__":
    exit_on_error(main)
