"""The picture of a round."""

import os
import sys
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_env.crop_bank import CropBank
from fusion_env.degradation import Degradation, degrade, draw_noise

__all__ = ["draw_round", "has_display", "show"]

_TILE = 192
_CAPTION = 20
_LINE = 18


@torch.inference_mode()
def draw_round(
    bank: CropBank, student: nn.Module, degradation: Degradation, lines: Sequence[str], crop: int = 0
) -> NDArray[np.uint8]:
    """Draw infrared, visible, degraded visible, teacher and student side by side, with a column of text.

    Args:
        bank: Scored crops.
        student: Called as ``student(ir=ir, vis=luma)``.
        degradation: Shown on the visible crop, with the same random part in every picture.
        lines: Text.
        crop: Which crop to show.

    Returns:
        uint8 [H, W, 3]; the size does not depend on the content.
    """
    ir, vis, target = bank.batch(torch.tensor([crop], device=bank.ir.device))
    noise = draw_noise(vis.shape, torch.Generator().manual_seed(0), vis.device)
    tiles = {
        "infrared": ir,
        "visible": vis,
        "degraded": degrade(vis, degradation, noise),
        "teacher": target,
        "student": student(ir=ir, vis=vis),
    }
    columns = [_tile(name, image) for name, image in tiles.items()]
    return np.hstack([*columns, _text(lines)])


def _tile(name: str, image: Tensor) -> NDArray[np.uint8]:
    levels = image[0, 0].mul(255).add(0.5).clamp(0, 255).byte().cpu().numpy()
    picture = np.zeros((_TILE + _CAPTION, _TILE, 3), np.uint8)
    picture[_CAPTION:] = cv2.resize(levels, (_TILE, _TILE), interpolation=cv2.INTER_AREA)[..., None]
    _write(picture, name, 14)
    return picture


def _text(lines: Sequence[str]) -> NDArray[np.uint8]:
    picture = np.zeros((_TILE + _CAPTION, _TILE, 3), np.uint8)
    for row, line in enumerate(lines):
        _write(picture, line, _CAPTION + _LINE * (row + 1))
    return picture


def _write(picture: NDArray[np.uint8], text: str, baseline: int) -> None:
    cv2.putText(picture, text, (6, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)


def has_display() -> bool:
    """Tell whether a window can be opened."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(picture: NDArray[np.uint8]) -> None:
    """Show a picture in a window."""
    cv2.imshow("fusion_env", picture[..., ::-1])
    cv2.waitKey(1)
