"""Train the package's own student: pruned from the embedded teacher, guidance loss only, procedural scenes.

    python experiments/weights/train_student.py --out student/assets
    python experiments/weights/train_student.py --out student/assets --evaluate --data DIR ...

It is the code that trains stage 0 in every run, with the settings below, on scenes that no run uses. What one phase
made lies in the cache, so that the same command goes on with the next.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, write_text
from experiments.weights.against_averaging import Fuse, check_sources, compare_with_averaging, comparison_table
from experiments.weights.spectrum import PERIODS, pattern_amplitudes
from fusion_env import teachers
from fusion_env.config import preset
from fusion_env.data import ProceduralScenes, load_pair, luma_levels, rgb_to_luma
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.task import build_task
from student import FusionStudent
from student.weights import build_student, load_state, save_state

__all__ = ["main"]

SCENES, HEIGHT, WIDTH = 200, 240, 320
PHASES: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.002, "stage0_rounds": 600, "crop_size": 128, "batch_size": 4, "bank_size": 600},
    {"learning_rate": 0.0005, "stage0_rounds": 150, "crop_size": 224, "batch_size": 2, "bank_size": 400},
    {"learning_rate": 0.001, "stage0_rounds": 300, "crop_size": 224, "batch_size": 2, "bank_size": 600},
)
"""Small crops show more of the scenes in the same time; the networks normalise over their whole input, so that the end
is made on crops near the size of whole images. The last phase was added because the second was too short."""
SHARED: dict[str, Any] = {"iterations": 10, "threads": 1}


def train() -> dict[str, Tensor]:
    """Train in all phases, each from what the one before made; finished phases come from the cache."""
    scenes = ProceduralScenes(SCENES, HEIGHT, WIDTH, scene_seed("embedded"))
    start = "prune"
    with tempfile.TemporaryDirectory() as folder:
        for number, phase in enumerate(PHASES, start=1):
            settings = preset("demo", student_init=start, **SHARED, **phase)
            state = build_task(settings, progress_bar, source=scenes).stage0
            start = str(Path(folder) / f"phase{number}.safetensors")
            save_state(state, Path(start))
    return state


@torch.inference_mode()
def evaluate(student: FusionStudent, folders: Sequence[Path]) -> str:
    """Compare the student with its teacher and classical methods; see `check_sources`."""
    methods: dict[str, Fuse] = {
        "laplacian": teachers.load("laplacian"),
        "teacher": teachers.load("embedded"),
        "student": lambda ir, vis: student(ir=ir, vis=rgb_to_luma(vis)),
    }
    sections = []
    for title, (source, indices) in check_sources(folders).items():
        means = compare_with_averaging(source, indices, methods)
        ours, wanted = means["student"], means["teacher"]
        share = sum(ours[name] / wanted[name] for name in ("vif", "iqa")) / 2
        sections.append(f"{title}; E of the student is {share:.3f} of the teacher's:\n\n{comparison_table(means)}")
    return "\n\n".join([*sections, _patterns(student)])


def _patterns(student: FusionStudent) -> str:
    (scenes, indices), *_ = check_sources([]).values()
    images: dict[str, list[Any]] = {name: [] for name in ("infrared", "visible", "teacher", "student")}
    teacher = teachers.load("embedded")
    for index in indices:
        pair = load_pair(scenes, index)
        ir, vis = pair.ir[None].float() / 255, luma_levels(pair.vis)[None].float() / 255
        fused = teacher.fuse_luma(ir=ir, vis=vis), student(ir=ir, vis=vis)
        for name, image in zip(images, (ir, vis, *fused), strict=True):
            images[name].append(255 * image[0, 0].numpy())
    rows = [[name, *pattern_amplitudes(group).values()] for name, group in images.items()]
    table = markdown_table(["period in pixels", *map(str, PERIODS)], rows, decimals=3)
    return f"Waves that stand out of the spectrum, amplitude in grey levels of 255 (unseen scenes):\n\n{table}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/student"), help="folder for the weights and their card")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the stored file")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of real pairs to evaluate on as well")
    args = parser.parse_args(arguments)
    path = args.out / "student.safetensors"
    if not args.evaluate:
        save_state(train(), path, half=True)
    table = evaluate(build_student(load_state(path), str(path)).eval(), args.data)
    print(table)
    if not args.evaluate:
        write_text(args.out / "student.md", card(path, table))
    return 0


def card(path: Path, table: str) -> str:
    """Write the card that lies beside the weights."""
    task = build_task(preset("demo", student_init=str(path)), progress_bar)
    report, teacher = task.report.score(task.new_engine(0, 0).student), task.report.teacher()
    names = list(PHASES[0])
    phases = [[number, *(phase[name] for name in names)] for number, phase in enumerate(PHASES, start=1)]
    return f"""# student.safetensors

The demo's stage-0 student (0.652385 M parameters), stored as float16, loaded as float32: pruned from the embedded
teacher `{teachers.load("embedded").fingerprint()}` and trained with the guidance loss only, by the code that trains
stage 0 in every run. Data: {SCENES} procedural scenes of {WIDTH}x{HEIGHT} that no run uses. Licence: Apache-2.0.

Command: `python experiments/weights/train_student.py --out student/assets` (torch {torch.__version__});
preset demo with {", ".join(f"{name} {value}" for name, value in SHARED.items())}, and each phase from the one before:

{markdown_table(["phase", *names], phases)}

Measured on this file, report split of the demo ({len(task.splits.report)} unseen scenes, whole images):

{markdown_table(["", "student", "teacher"], [[name, report[name], teacher[name]] for name in report], decimals=4)}

`python experiments/weights/train_student.py --out student/assets --evaluate [--data DIR ...]`; higher is better for
all metrics, VIF and SSIM are sums over both sources, E is the mean of VIF and IQA as shares of the teacher's. No real
pair was trained on.

{table}
"""


if __name__ == "__main__":
    exit_on_error(main)
