"""Figure 3: every degradation at several strengths, and what the student makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.evaluation.side_by_side import draw_pictures
from experiments.output import markdown_table, write_text
from experiments.paper.comparison import Box, salient_boxes
from experiments.paper.order import Order
from experiments.paper.page import head
from experiments.paper.pair_sets import ordered_sets
from fusion_env.action import STRENGTHS, Strength
from fusion_env.data import ImagePair, luma_levels
from fusion_env.degradation import Degradation, degrade, draw_noise
from fusion_env.metrics import to_levels
from student.fuse import Fuser
from student.images import Pixels
from student.origin import open_student

__all__ = ["degraded", "make"]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of each strength's range."""
_SEED = 0


def make(order: Order) -> Path:
    """Show a detail of one pair, a real one where there are any: infrared, visible luma, and the student's image."""
    sets = ordered_sets(order)
    one = next((real for real in sets if real.published), sets[0])
    pair = one.pair(one.middle)
    network, told = open_student(order.student)
    fuser = Fuser(network, name=told, device=order.device)
    box = salient_boxes(pair)[1]
    rows = {
        strength.name: [_details(*degraded(pair, strength, share), fuser, box) for share in SHARES]
        for strength in STRENGTHS
    }
    folder = order.folder("figure3")
    draw_pictures([f"{share:.0%} of the range" for share in SHARES], rows, folder / "figure3.png")
    values = [[s.name, *(f"{s.to_strength(share):g}" for share in SHARES)] for s in STRENGTHS]
    text = (
        f"Pair {pair.name} of {one.name}, the square of {box.side} pixels where the visible image varies most beside "
        f"where the infrared one does: infrared, visible luma, and what the student ({told}) makes of the whole pair. "
        "Brightness and contrast are shown at the ends of their ranges, darker and flatter in the infrared image, "
        f"brighter and stronger in the visible one; a run draws a factor between. Noise of seed {_SEED}. Ranges and "
        "order are chosen, the paper gives none."
    )
    table = markdown_table(["setting", *(f"{share:.0%}" for share in SHARES)], values)
    parts = [*head("Figure 3: degradations", order.command), text, table, "![degradations](figure3.png)", ""]
    write_text(folder / "figure3.md", "\n\n".join(parts))
    return folder / "figure3.md"


def degraded(pair: ImagePair, strength: Strength, share: float) -> tuple[Tensor, Tensor]:
    """Degrade infrared and visible luma of a pair by one degradation.

    Args:
        pair: The pair.
        strength: Which degradation.
        share: Of its range.

    Returns:
        Both images, float32 [1, 1, H, W] in 0..1. Factors are the lowest for infrared and the highest for visible.
    """
    setting: dict[str, Any] = {strength.setting: strength.to_strength(share)}
    generator = torch.Generator().manual_seed(_SEED)
    images = []
    for levels, end in ((pair.ir, -1.0), (luma_levels(pair.vis), 1.0)):
        image = levels[None].float() / 255
        ends = {name: torch.full((1,), end) for name in ("brightness", "contrast")}
        images.append(degrade(image, Degradation(**setting), replace(draw_noise(image.shape, generator), **ends)))
    return images[0], images[1]


def _details(ir: Tensor, vis: Tensor, fuser: Fuser, box: Box) -> Pixels:
    """Put a detail of infrared, visible and fused image side by side."""
    fused = fuser(ir=ir[0], vis=vis[0])[None]
    images = [to_levels(image)[0, 0].numpy().astype(np.uint8) for image in (ir, vis, fused)]
    return np.hstack([image[box.top : box.top + box.side, box.left : box.left + box.side] for image in images])
