"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from experiments.output import save_figure
from experiments.running.rounds import Row
from fusion_env.action import STRENGTHS
from fusion_env.data import ycbcr_to_rgb
from fusion_env.report import ReportSplit, model_input
from student.weights import build_student

__all__ = ["draw_preview", "draw_rewards"]

_PREVIEWS = 4


@torch.inference_mode()
def draw_preview(report: ReportSplit, before: dict[str, Tensor], after: dict[str, Tensor], path: Path) -> None:
    """Draw some report pairs: infrared, visible, teacher, student before and after, with the visible chroma.

    Args:
        report: The report split.
        before: State dict of the stage-0 student.
        after: State dict of the delivered student.
        path: PNG file.
    """
    indices = report.indices[:_PREVIEWS]
    titles = ("infrared", "visible", "teacher", "student, stage 0", "student, delivered")
    figure = Figure(figsize=(3.2 * len(titles), 2.55 * len(indices)), layout="constrained")
    axes = figure.subplots(len(indices), len(titles), squeeze=False)
    students = [build_student(state, "student") for state in (before, after)]
    for row, index in zip(axes, indices, strict=True):
        pair = report.images.source.load(index)
        ir, vis, chroma = model_input(pair, torch.device("cpu"))
        fused = [report.images.teacher_image(index).cpu(), *(student(ir=ir, vis=vis) for student in students)]
        pictures = [
            ir.expand(-1, 3, -1, -1),
            pair.vis[None].float() / 255,
            *(_coloured(luma, chroma) for luma in fused),
        ]
        for axis, picture, title in zip(row, pictures, titles, strict=True):
            axis.imshow(_levels(picture))
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    save_figure(figure, path)


def _coloured(luma: Tensor, chroma: Tensor) -> Tensor:
    return ycbcr_to_rgb(torch.cat([luma, chroma], dim=1))


def _levels(picture: Tensor) -> NDArray[np.uint8]:
    return picture[0].mul(255).add(0.5).clamp(0, 255).byte().permute(1, 2, 0).numpy()


def draw_rewards(rows: Sequence[Row], path: Path) -> None:
    """Draw reward and gap, loss weights, and degradation strengths over the rounds.

    Args:
        rows: The rows of all rounds.
        path: PNG file.
    """
    rounds = np.arange(1, len(rows) + 1)

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    figure = Figure(figsize=(7, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    top.plot(rounds, column("reward"), label="reward")
    top.plot(rounds, column("gap"), "--", label="gap E(student) - E(teacher)")
    middle.plot(rounds, column("weight_guidance"), label="weight of guidance")
    middle.plot(rounds, column("guidance_share"), "--", label="its share of the gradient norm")
    middle.set_ylim(-0.05, 1.05)
    for strength in STRENGTHS:
        bottom.plot(rounds, (column(f"action_{strength.name}") + 1) / 2, label=strength.name)
    bottom.set_ylim(-0.05, 1.05)
    bottom.set_ylabel("strength (0 off, 1 most)")
    bottom.set_xlabel("round")
    for axis in (top, middle, bottom):
        axis.legend(fontsize=8, loc="best")
        axis.grid(alpha=0.3)
    save_figure(figure, path)
