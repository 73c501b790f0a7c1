"""Train the student that runs start from: pruned from the embedded teacher, guidance loss only, procedural scenes.

    python experiments/weights/train_start.py --out fusion_env/assets
    python experiments/weights/train_start.py --out fusion_env/assets --evaluate --data DIR ...

It is the code that trains stage 0 in every run, with the settings below, on scenes that no run uses. What one phase
made lies in the cache, so that the same command goes on with the next. The student for pictures of one's own is another
one, which `train_student.py` trains.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, write_text
from experiments.weights.beside_teacher import student_tables
from fusion_env import teachers
from fusion_env.config import preset
from fusion_env.data import ProceduralScenes
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.task import build_task
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/start"), help="folder for the weights and their card")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the stored file")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of real pairs to evaluate on as well")
    args = parser.parse_args(arguments)
    path = args.out / "start.safetensors"
    if not args.evaluate:
        save_state(train(), path, half=True)
    table = student_tables(build_student(load_state(path), str(path)).eval(), args.data)
    print(table)
    if not args.evaluate:
        write_text(args.out / "start.md", card(path, table))
    return 0


def card(path: Path, table: str) -> str:
    """Write the card that lies beside the weights."""
    task = build_task(preset("demo", student_init=str(path)), progress_bar)
    report, teacher = task.report.score(task.new_engine(0, 0).student), task.report.teacher()
    names = list(PHASES[0])
    phases = [[number, *(phase[name] for name in names)] for number, phase in enumerate(PHASES, start=1)]
    return f"""# start.safetensors

The demo's stage-0 student (0.652385 M parameters), stored as float16, loaded as float32: pruned from the embedded
teacher `{teachers.load("embedded").fingerprint()}` and trained with the guidance loss only, by the code that trains
stage 0 in every run. Data: {SCENES} procedural scenes of {WIDTH}x{HEIGHT} that no run uses. Licence: Apache-2.0.

Command: `python experiments/weights/train_start.py --out fusion_env/assets` (torch {torch.__version__});
preset demo with {", ".join(f"{name} {value}" for name, value in SHARED.items())}, and each phase from the one before:

{markdown_table(["phase", *names], phases)}

Measured on this file, report split of the demo ({len(task.splits.report)} unseen scenes, whole images):

{markdown_table(["", "student", "teacher"], [[name, report[name], teacher[name]] for name in report], decimals=4)}

`python experiments/weights/train_start.py --out fusion_env/assets --evaluate [--data DIR ...]`; higher is better for
all metrics, VIF and SSIM are sums over both sources, E is the mean of VIF, IQA and SSIM as shares of the teacher's. No
real pair was trained on.

{table}
"""


if __name__ == "__main__":
    exit_on_error(main)
