"""Pseudo-letters made of strokes: they look like writing from afar and depend on no font."""

import cv2
import numpy as np

__all__ = ["LETTER_HEIGHT", "lettering"]

LETTER_HEIGHT = 24
_ADVANCE = 16
_MARGIN = 4
_STROKES = (
    ((2, 4), (2, 20)),
    ((10, 4), (10, 20)),
    ((2, 4), (10, 4)),
    ((2, 12), (10, 12)),
    ((2, 20), (10, 20)),
    ((2, 20), (6, 4)),
    ((6, 4), (10, 20)),
    ((6, 4), (6, 20)),
    ((2, 4), (10, 20)),
)


def lettering(rng: np.random.Generator, count: int, thickness: int = 3) -> np.ndarray:
    """Draw a line of pseudo-letters.

    Args:
        rng: Chooses the strokes.
        count: Number of letters.
        thickness: Width of the strokes in pixels; letters are 24 pixels high.

    Returns:
        Coverage 0..1, float32 [24, 16 * count + 8].
    """
    line = np.zeros((LETTER_HEIGHT, _ADVANCE * count + 2 * _MARGIN), np.uint8)
    for letter in range(count):
        left = _MARGIN + _ADVANCE * letter
        for stroke in rng.choice(len(_STROKES), size=3, replace=False):
            (ax, ay), (bx, by) = _STROKES[int(stroke)]
            cv2.line(line, (left + ax, ay), (left + bx, by), 255, thickness, cv2.LINE_AA)
    return line.astype(np.float32) / 255.0
