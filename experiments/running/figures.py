"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from experiments.output import save_figure
from experiments.running.rounds import Row
from fusion_env.action import STRENGTHS
from fusion_env.data import ImagePair, ycbcr_to_rgb
from fusion_env.report import ReportSplit, model_input
from student.files import write_atomic
from student.weights import build_student

__all__ = ["CLEAN_TITLES", "IMAGE_TITLES", "Images", "draw_preview", "draw_rewards", "report_images", "write_images"]

IMAGE_TITLES = {
    "infrared": "infrared",
    "visible": "visible",
    "teacher": "teacher",
    "stage0": "student, stage 0",
    "delivered": "student, delivered",
}
"""The images of a report pair, with their titles."""

CLEAN_TITLES = {"clean_infrared": "infrared, clean", "clean_visible": "visible, clean"}
"""What there is beside them where the pair is seen through cameras."""

Images = dict[str, NDArray[np.uint8]]
"""The images of one report pair by their names."""

_PREVIEWS = 4


@torch.inference_mode()
def report_images(report: ReportSplit, before: dict[str, Tensor], after: dict[str, Tensor]) -> list[Images]:
    """Fuse some report pairs, with the visible chroma.

    Args:
        report: The report split.
        before: State dict of the stage-0 student.
        after: State dict of the delivered student.

    Returns:
        For each pair its images under the names of `IMAGE_TITLES` and, where it is seen through cameras, of
        `CLEAN_TITLES`, uint8 [H, W, 3].
    """
    students = [build_student(state, "student") for state in (before, after)]
    shown = []
    for index in report.indices[:_PREVIEWS]:
        pair, clean = report.images.pairs(index)
        ir, vis, chroma = model_input(pair, torch.device("cpu"))
        fused = [report.images.teacher_image(index).cpu(), *(student(ir=ir, vis=vis) for student in students)]
        pictures = [*_sides(pair), *(_levels(_coloured(luma, chroma)) for luma in fused)]
        images = dict(zip(IMAGE_TITLES, pictures, strict=True))
        shown.append(images if clean is pair else images | dict(zip(CLEAN_TITLES, _sides(clean), strict=True)))
    return shown


def draw_preview(images: Sequence[Images], path: Path) -> None:
    """Draw report pairs: infrared, visible, teacher, student before and after.

    Args:
        images: What `report_images` returned.
        path: PNG file.
    """
    titles = [(IMAGE_TITLES | CLEAN_TITLES)[name] for name in images[0]]
    figure = Figure(figsize=(3.2 * len(titles), 2.55 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), len(titles), squeeze=False)
    for row, pair in zip(axes, images, strict=True):
        for axis, picture, title in zip(row, pair.values(), titles, strict=True):
            axis.imshow(picture)
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    save_figure(figure, path)


def write_images(images: Sequence[Images], folder: Path) -> None:
    """Write each image of `report_images` in full size, as ``NUMBER-NAME.png`` with numbers from 1."""
    for number, pair in enumerate(images, 1):
        for name, picture in pair.items():
            write_atomic(folder / f"{number}-{name}.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def _sides(pair: ImagePair) -> list[NDArray[np.uint8]]:
    """Return infrared and visible picture, uint8 [H, W, 3]."""
    return [side.expand(3, -1, -1).permute(1, 2, 0).numpy() for side in (pair.ir, pair.vis)]


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
