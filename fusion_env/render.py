"""The picture of a round."""

import os
import sys
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion_env.degradation import Degradation, degrade, draw_noise
from fusion_env.stored_images import StoredImages

__all__ = ["draw_round", "has_display", "show"]

_WIDTH, _HEIGHT = 640, 480
_TILE = 200
_CAPTION = 20
_LINE = 18
_MARGIN = 10
_HEAD = _HEIGHT - 2 * (_TILE + _CAPTION)
_LIGHT, _BAR, _DIM = (255, 255, 255), (90, 180, 255), (70, 70, 70)


@torch.inference_mode()
def draw_round(
    images: StoredImages,
    student: nn.Module,
    degradation: Degradation,
    lines: Sequence[str],
    number: int = 0,
    *,
    bars: Mapping[str, float] | None = None,
    done: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw infrared, visible, degraded visible, teacher, student and numbers: a picture that can be read as it is.

    Args:
        images: Scored images.
        student: Called as ``student(ir=ir, vis=luma)``.
        degradation: Shown on the visible image, with the same random part in every picture.
        lines: Text; the first one is the title.
        number: Which of them to show.
        bars: Shares 0..1 below the text, with their names.
        done: Share 0..1 of the run that is over.

    Returns:
        uint8 [480, 640, 3], whatever the content.
    """
    ir, vis, target = images.batch(torch.tensor([number], device=images.device))
    noise = draw_noise(vis.shape, torch.Generator().manual_seed(0), vis.device)
    tiles = {
        "infrared": ir,
        "visible": vis,
        "visible, degraded": degrade(vis, degradation, noise),
        "teacher": target,
        "student": student(ir=ir, vis=vis),
    }
    cells = [*(_tile(name, image) for name, image in tiles.items()), _numbers(lines[1:], bars or {})]
    picture = np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)
    _write(picture, "".join(lines[:1]), 24, scale=0.6)
    cv2.rectangle(picture, (0, _HEAD - 5), (_WIDTH - 1, _HEAD - 3), _DIM, cv2.FILLED)
    cv2.rectangle(picture, (0, _HEAD - 5), (round((_WIDTH - 1) * done), _HEAD - 3), _BAR, cv2.FILLED)
    for at, cell in enumerate(cells):
        top, left = _HEAD + at // 3 * (_TILE + _CAPTION), _MARGIN + at % 3 * (_TILE + _MARGIN)
        picture[top : top + _TILE + _CAPTION, left : left + _TILE] = cell
    return picture


def _tile(name: str, image: Tensor) -> NDArray[np.uint8]:
    levels = image[0, 0].mul(255).add(0.5).clamp(0, 255).byte().cpu().numpy()
    picture = _cell()
    height, width = (round(side * _TILE / max(levels.shape)) for side in levels.shape)
    top, left = _CAPTION + (_TILE - height) // 2, (_TILE - width) // 2
    shown = cv2.resize(levels, (width, height), interpolation=cv2.INTER_AREA)
    picture[top : top + height, left : left + width] = shown[..., None]
    _write(picture, name, 14)
    return picture


def _numbers(lines: Sequence[str], bars: Mapping[str, float]) -> NDArray[np.uint8]:
    picture = _cell()
    for row, line in enumerate(lines):
        _write(picture, line, _LINE * (row + 1) - 4)
    bottom = _TILE + _CAPTION - _MARGIN
    for row, (name, share) in enumerate(reversed(list(bars.items()))):
        baseline, left, right = bottom - (_LINE - 2) * row, _TILE // 2, _TILE - _MARGIN
        _write(picture, name, baseline)
        cv2.rectangle(picture, (left, baseline - 8), (right, baseline), _DIM, cv2.FILLED)
        if share > 0:
            end = left + round((right - left) * share)
            cv2.rectangle(picture, (left, baseline - 8), (end, baseline), _BAR, cv2.FILLED)
    return picture


def _cell() -> NDArray[np.uint8]:
    return np.zeros((_TILE + _CAPTION, _TILE, 3), np.uint8)


def _write(picture: NDArray[np.uint8], text: str, baseline: int, scale: float = 0.42) -> None:
    cv2.putText(picture, text, (6, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, _LIGHT, 1, cv2.LINE_AA)


def has_display() -> bool:
    """Tell whether a window can be opened."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(picture: NDArray[np.uint8]) -> None:
    """Show a picture in a window."""
    cv2.imshow("fusion_env", picture[..., ::-1])
    cv2.waitKey(1)
