"""Train the package's own student: pruned from the embedded teacher, guidance loss only, procedural scenes.

    python experiments/weights/train_student.py --out student/assets

It is the code that trains stage 0 in every run, with the settings below, on scenes that no run uses.
"""

from pathlib import Path

import torch

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, write_text
from fusion_env.config import preset
from fusion_env.data import ProceduralScenes
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.task import build_task
from student.weights import save_state

__all__ = ["main"]

SCENES, HEIGHT, WIDTH = 200, 240, 320
SETTINGS = {
    "student_init": "prune",
    "stage0_rounds": 300,
    "iterations": 10,
    "learning_rate": 0.002,
    "crop_size": 128,
    "batch_size": 4,
    "bank_size": 600,
    "threads": 1,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/student"), help="folder for the weights and their card")
    args = parser.parse_args(arguments)
    scenes = ProceduralScenes(SCENES, HEIGHT, WIDTH, scene_seed("embedded"))
    path = args.out / "student.safetensors"
    save_state(build_task(preset("demo", **SETTINGS), progress_bar, source=scenes).stage0, path, half=True)
    task = build_task(preset("demo", student_init=str(path)), progress_bar)
    report, teacher = task.report.score(task.new_engine(0, 0).student), task.report.teacher()
    rows = [[name, report[name], teacher[name]] for name in report]
    text = f"""# student.safetensors

The demo's stage-0 student (0.652385 M parameters), stored as float16, loaded as float32: pruned from the embedded
teacher and trained with the guidance loss only, by the code that trains stage 0 in every run. Data: {SCENES} procedural
scenes of {WIDTH}x{HEIGHT} that no run uses. Licence: Apache-2.0.

Command: `python experiments/weights/train_student.py --out student/assets` (torch {torch.__version__});
preset demo with

{markdown_table(["setting", "value"], SETTINGS.items())}

Measured on this file, report split of the demo ({len(task.splits.report)} unseen scenes, whole images):

{markdown_table(["", "student", "teacher"], rows, decimals=4)}
"""
    write_text(args.out / "student.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    exit_on_error(main)
