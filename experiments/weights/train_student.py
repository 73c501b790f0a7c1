"""Train the package's own stage-0 student: pruned from the embedded teacher, guidance loss only, procedural scenes.

    python experiments/weights/train_student.py --out fusion_env/assets

It is the code that trains stage 0 in every run, with the settings below.
"""

from pathlib import Path

import torch

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, write_text
from fusion_env.config import preset
from fusion_env.task import build_task
from student import FusionStudent
from student.weights import load_into, load_state, save_state

__all__ = ["main"]

SETTINGS = {"student_init": "prune", "stage0_rounds": 15, "scenes": 120, "bank_size": 480, "threads": 1}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/student"), help="folder for the weights and their card")
    args = parser.parse_args(arguments)
    task = build_task(preset("demo", **SETTINGS), progress_bar)
    path = args.out / "student.safetensors"
    save_state(task.stage0, path, half=True)
    student = FusionStudent()
    load_into(student, load_state(path), str(path))
    report, teacher = task.report.score(student.eval()), task.report.teacher()
    rows = [[name, report[name], teacher[name]] for name in report]
    text = f"""# student.safetensors

The demo's stage-0 student (0.652385 M parameters), stored as float16, loaded as float32: pruned from the embedded
teacher and trained with the guidance loss only, by the code that trains stage 0 in every run. It is a start to be
improved, not a finished student. Data: procedural scenes. Licence: Apache-2.0.

Command: `python experiments/weights/train_student.py --out fusion_env/assets` (torch {torch.__version__});
preset demo with

{markdown_table(["setting", "value"], SETTINGS.items())}

Measured on this file, report split ({len(task.splits.report)} unseen scenes):

{markdown_table(["", "student", "teacher"], rows, decimals=4)}
"""
    write_text(args.out / "student.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    exit_on_error(main)
