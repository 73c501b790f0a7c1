"""The picture of a round."""

import os
import sys
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_env.crop_bank import StoredImages
from fusion_env.degradation import Degradation, degrade, draw_noise

__all__ = ["draw_round", "has_display", "show"]

_TILE = 192
_CAPTION = 20
_LINE = 18


@torch.inference_mode()
def draw_round(
    images: StoredImages, student: nn.Module, degradation: Degradation, lines: Sequence[str], number: int = 0
) -> NDArray[np.uint8]:
    """Draw infrared, visible, degraded visible, teacher and student side by side, with a column of text.

    Args:
        images: Scored images.
        student: Called as ``student(ir=ir, vis=luma)``.
        degradation: Shown on the visible image, with the same random part in every picture.
        lines: Text.
        number: Which of them to show.

    Returns:
        uint8 [H, W, 3]; the size does not depend on the content.
    """
    ir, vis, target = images.batch(torch.tensor([number], device=images.ir.device))
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
    height, width = (round(side * _TILE / max(levels.shape)) for side in levels.shape)
    top, left = _CAPTION + (_TILE - height) // 2, (_TILE - width) // 2
    shown = cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA)
    picture[top : top + height, left : left + width] = shown[..., None]
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
