"""Score the students of a benchmark on degraded images, which neither the reward nor the report looks at.

python experiments/studies/robustness.py benchmarks/mine

Self-learning (Eq. 2) trains a student to give the same image for degraded input. Whether it does is measured here: the
inputs of the report split are degraded, and the student's image is compared with the one that the teacher makes of the
clean pair.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarking.uncertainty import middle_half, unit_interval
from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table, write_csv, write_text
from experiments.running.directory import RunDirectory
from fusion_env.action import even_degradation
from fusion_env.data import Progress, no_progress
from fusion_env.degradation import degrade, draw_noise
from fusion_env.errors import ConfigError
from fusion_env.report import model_input
from fusion_env.scoring import indicator_values
from fusion_env.task import DistillationTask, build_task
from student.weights import load_student

__all__ = ["STRENGTHS", "main", "robustness", "score_degraded"]

STRENGTHS = (0.0, 0.25, 0.5, 1.0)
"""Shares of every degradation's range; 0 is the clean image."""

TEACHER = "*teacher*"
Row = dict[str, Any]
Fuse = Callable[..., Tensor]


@torch.inference_mode()
def score_degraded(task: DistillationTask, fuse: Fuse, strength: float, draws: int) -> dict[str, float]:
    """Score a network on the degraded report split.

    Args:
        task: Its report split, teacher and score are used.
        fuse: Called as ``fuse(ir=ir, vis=luma)``, float [1, 1, H, W] in 0..1.
        strength: See `even_degradation`.
        draws: Random parts for each image; the same for every network.

    Returns:
        Means over the images: ``mae``, the distance to the teacher's image of what is degraded, and ``gap``,
        E(fused) - E(teacher), where E's metrics compare with the clean pair, too.
    """
    degradation, rows = even_degradation(strength), []
    for index in task.report.indices:
        seen, clean = (model_input(pair, task.device)[:2] for pair in task.report.images.pairs(index))
        target = task.report.images.teacher_image(index)
        for draw in range(draws if strength else 1):
            generator = torch.Generator().manual_seed(draw)
            both = torch.cat(seen)
            bad_ir, bad_vis = degrade(both, degradation, draw_noise(both.shape, generator, task.device)).chunk(2)
            fused = fuse(ir=bad_ir, vis=bad_vis)
            values = indicator_values(task.scorer.names, fused, ir=clean[0], vis=clean[1], quality=task.quality)
            rows.append({"mae": (fused - target).abs().mean(), **values})
    means = {name: float(np.mean([float(row[name]) for row in rows])) for name in rows[0]}
    return {"mae": means["mae"], "gap": task.scorer.score_e(means) - task.report.teacher()["e"]}


def robustness(folder: Path, draws: int, progress: Progress = no_progress) -> list[Row]:
    """Score every finished run of a benchmark, and the teacher, at all of `STRENGTHS`.

    Args:
        folder: Directory of ``benchmark.py``.
        draws: Random parts for each image.
        progress: Progress display over the runs.

    Returns:
        Rows with `policy`, `seed`, `stage0_seed`, `strength`, `mae`, `gap`.

    Raises:
        ConfigError: There is no finished run.
    """
    directories = [RunDirectory(path) for path in sorted(folder.glob("runs/*/*"))]
    finished = [directory for directory in directories if directory.is_finished]
    if not finished:
        raise ConfigError(f"{folder} holds no finished run (runs/NAME/SEED): give the directory of a benchmark")
    task_of = lru_cache(maxsize=4)(build_task)  # as many as there are stage-0 students, mostly, which take turns
    rows: list[Row] = []
    for directory in progress(finished, "runs"):
        config = directory.read_config()
        task = task_of(config.env)
        student = load_student(directory.student).to(task.device).eval()
        labels = {"policy": directory.path.parent.name, "seed": config.seed, "stage0_seed": config.env.stage0_seed}
        rows += [{**labels, "strength": s, **score_degraded(task, student, s, draws)} for s in STRENGTHS]
    labels = {"policy": TEACHER, "seed": 0, "stage0_seed": 0}
    for strength in progress(STRENGTHS, "teacher"):
        rows.append({**labels, "strength": strength, **score_degraded(task, task.teacher.fuse_luma, strength, draws)})
    return rows


def results_table(rows: Sequence[Row]) -> str:
    """Write both measures as Markdown: interquartile means over the runs with 95 % intervals."""
    header = ["policy", "n", *(f"{strength:.0%}" if strength else "clean" for strength in STRENGTHS)]
    parts = []
    for measure, title in (("mae", "MAE to the teacher's clean image"), ("gap", "E - E(teacher, clean)")):
        lines = []
        for policy in dict.fromkeys(row["policy"] for row in rows):
            own = [row for row in rows if row["policy"] == policy]
            lines.append([policy, len({row["seed"] for row in own}), *(_estimate(own, s, measure) for s in STRENGTHS)])
        parts.append(f"{title}:\n\n{markdown_table(header, lines)}\n")
    return "\n".join(parts)


def _estimate(rows: Sequence[Row], strength: float, measure: str) -> str:
    return f"{unit_interval(middle_half, [row[measure] for row in rows if row['strength'] == strength]):.3f}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="directory of a benchmark, with its runs")
    parser.add_argument("--draws", type=int, default=3, help="random parts of the degradations for each image")
    parser.add_argument("--out", type=Path, help="directory for robustness.csv and robustness.md (default: the first)")
    args = parser.parse_args(arguments)
    if args.draws < 1:
        raise ConfigError(f"--draws must be at least 1. Got {args.draws}")
    rows = robustness(args.folder, args.draws, progress_bar)
    out = args.out or args.folder
    table = results_table(rows)
    write_csv(out / "robustness.csv", rows)
    write_text(out / "robustness.md", f"# Degraded input\n\n{table}")
    print(f"{table}\nWritten to {out}: robustness.csv, robustness.md")
    return 0


if __name__ == "__main__":
    exit_on_error(main)
