"""Estimate how an infrared image lies on a visible one, and say how far that can be trusted.

Heat and light rarely agree in grey values, but often in where edges are and how they run. Both images become maps of
edge strength in four directions, normalised where they stand. A search over turns, sizes and shifts finds the rough
position; then patches are matched one by one, and RANSAC fits the homography on which most of them agree. The share of
patches that agree tells a good estimate from chance: `experiments/measurements/alignment_accuracy.py`.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from student.errors import ImageError

__all__ = ["Alignment", "AlignmentError", "align"]

Map = NDArray[np.float32]
Matrix = NDArray[np.float64]

_TURNS = (-6, -4, -2, 0, 2, 4, 6)
_SIZES = (0.86, 0.93, 1, 1.07, 1.15)
_REACH = 0.12
"""What the search covers: degrees, factors, and shifts as a share of the longer side."""

_SEARCHED = 128
_REFINED = ((256, 40, 10), (512, 56, 8), (512, 56, 6))
"""Longer side of the images, side of a patch and how far it is moved, for each refinement."""

_DIRECTIONS = 4
_NOISE = 8.0
_TOLERANCE = 2.0
_MIN_SHARE, _MIN_PATCHES, _MIN_COVER, _MAX_MOVE = 0.3, 24, 0.5, 0.25


class AlignmentError(ImageError):
    """Two images cannot be aligned well enough to be fused."""


@dataclass(frozen=True)
class Alignment:
    """How an infrared image lies on a visible one.

    Attributes:
        homography: Maps a visible pixel (column, row, 1) to the infrared one.
        size: Height and width of the visible image.
        agreeing: Patches that agree on it.
        patches: Patches that were compared.
        residual_px: Median distance of those that agree, in visible pixels.
        moved_px: Largest move of a corner against images that are only scaled to one size, in visible pixels.
        cover: Share of the visible image that has infrared.
    """

    homography: Matrix
    size: tuple[int, int]
    agreeing: int
    patches: int
    residual_px: float
    moved_px: float
    cover: float

    def describe(self) -> str:
        """Say in one line how good it is."""
        spread = f" within {self.residual_px:.1f} pixels (median)" if self.agreeing else ""
        return (
            f"{self.agreeing} of {self.patches} patches agree{spread}; corners "
            f"move by up to {self.moved_px:.0f}; {self.cover:.0%} of the visible image has infrared"
        )

    def apply(self, *, ir: NDArray[Any], vis: NDArray[Any]) -> NDArray[Any]:
        """Return the infrared image as it lies on the visible one.

        Args:
            ir: Infrared, [H, W] or [H, W, 3]; uint8, or floating-point in 0..1.
            vis: Visible image, likewise, with height and width `size`. Where there is no infrared its luma is shown.

        Returns:
            Grey values [H, W], uint8 or float32 as ``ir``.
        """
        grey = _grey(ir)
        warped = _warped(grey, self.homography, self.size)
        filled = np.where(_covered(grey.shape, self.homography, self.size), warped, _grey(vis)).clip(0, 255)
        return (filled + 0.5).astype(np.uint8) if ir.dtype == np.uint8 else (filled / 255).astype(np.float32)


def align(*, ir: NDArray[Any], vis: NDArray[Any]) -> Alignment:
    """Estimate the homography between two images of one scene.

    They may differ in size, and by up to 6 degrees, 15 % of scale and 12 % of shift beyond that.

    Args:
        ir: Infrared, [H, W] or [H, W, 3]; uint8, or floating-point in 0..1.
        vis: Visible image, likewise.

    Raises:
        AlignmentError: Too few patches agree, or the two overlap by less than half.
    """
    greys = _grey(vis), _grey(ir)
    height, width = greys[0].shape
    scaled = _between(greys[1].shape, greys[0].shape)
    homography, residuals, patches = scaled, np.zeros(0), 0
    for side, patch, reach in ((_SEARCHED, 0, 0), *_REFINED):
        visible, infrared = (_shrunk(grey, side) for grey in greys)
        to_visible, to_infrared = (
            _between(map_.shape, grey.shape) for map_, grey in zip((visible, infrared), greys, strict=True)
        )
        local = to_infrared @ homography @ np.linalg.inv(to_visible)
        if patch:
            local, residuals, patches = _refined(visible, infrared, local, patch, reach)
        else:
            local = _searched(visible, infrared, local)
        homography = np.linalg.inv(to_infrared) @ local @ to_visible
    homography = homography / homography[2, 2]
    scale = max(height, width) / _REFINED[-1][0]
    found = Alignment(
        homography,
        (height, width),
        len(residuals),
        patches,
        float(np.median(residuals)) * scale if len(residuals) else float("nan"),
        _largest_move(homography, scaled, (height, width)),
        float(_covered(greys[1].shape, homography, (height, width)).mean()),
    )
    if patches < _MIN_PATCHES and found.cover >= _MIN_COVER:
        raise AlignmentError(
            f"no trustworthy alignment: {width} x {height} visible pixels have room for {patches} patches, needed are "
            f"{_MIN_PATCHES}. Enlarge both images first, so that the visible one has at least 240 x 180."
        )
    enough = found.agreeing >= max(_MIN_PATCHES, _MIN_SHARE * patches) and found.cover >= _MIN_COVER
    if not enough or found.moved_px > _MAX_MOVE * max(height, width):
        raise AlignmentError(
            f"no trustworthy alignment: {found.describe()}. Needed are {_MIN_SHARE:.0%} of the patches and at least "
            f"{_MIN_PATCHES}, {_MIN_COVER:.0%} of the image, and moves of at most {_MAX_MOVE:.0%} of its longer side. "
            "Do both show the same scene, in the order infrared, visible? Else register them by points chosen by hand."
        )
    return found


def _grey(image: NDArray[Any]) -> Map:
    """Return luma from 0 to 255."""
    values = image.astype(np.float32) * np.float32(1 if image.dtype == np.uint8 else 255)
    return values if values.ndim == 2 else values @ np.array([0.299, 0.587, 0.114], np.float32)


def _shrunk(grey: Map, side: int) -> Map:
    height, width = grey.shape
    factor = min(1.0, side / max(height, width))
    size = max(16, round(width * factor)), max(16, round(height * factor))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _between(target: tuple[int, ...], source: tuple[int, ...]) -> Matrix:
    """Return what maps pixels of a picture to those of the same in another size; centres lie at whole numbers."""
    y, x = (new / old for new, old in zip(target, source, strict=True))
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _warped(grey: Map, homography: Matrix, size: tuple[int, int]) -> Map:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(grey, homography, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def _covered(shape: tuple[int, ...], homography: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(np.ones(shape, np.uint8), homography, size[::-1], flags=flags) > 0


def _edges(grey: Map) -> Map:
    """Return edge strength in four directions, [H, W, 4], each place brought to about the same length."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.8)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    angles = np.arange(_DIRECTIONS, dtype=np.float32) * np.float32(np.pi / _DIRECTIONS)
    strengths = [cv2.GaussianBlur(np.abs(np.cos(a) * across + np.sin(a) * down), (0, 0), 1.2) for a in angles]
    edges = np.stack(strengths, axis=-1)
    return edges / (np.linalg.norm(edges, axis=-1, keepdims=True) + np.float32(_NOISE))


def _searched(visible: Map, infrared: Map, homography: Matrix) -> Matrix:
    """Improve a homography by the best of all turns, sizes and shifts."""
    height, width = visible.shape
    edges, reach = _edges(visible), round(_REACH * min(visible.shape))
    found = []
    for turn, size in product(_TURNS, _SIZES):
        turned = homography @ np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), turn, size), [0, 0, 1]])
        inner = _edges(_warped(infrared, turned, visible.shape))[reach : height - reach, reach : width - reach]
        _, score, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(edges, inner, cv2.TM_CCOEFF_NORMED))
        found.append((score, turned @ np.array([[1, 0, reach - x], [0, 1, reach - y], [0, 0, 1]])))
    return max(found, key=lambda item: item[0])[1]


def _refined(
    visible: Map, infrared: Map, homography: Matrix, patch: int, reach: int
) -> tuple[Matrix, NDArray[np.float64], int]:
    """Improve a homography by patches; return it, the distances of those that agree, and how many were compared."""
    start, goal, compared = _matched(visible, infrared, homography, patch, reach)
    if len(start) < _MIN_PATCHES:
        return homography, np.zeros(0), compared
    goal = cv2.perspectiveTransform(goal[None], homography)[0]
    pixel = float(np.sqrt(abs(np.linalg.det(homography[:2, :2]))))  # of the visible map, in the infrared one
    cv2.setRNGSeed(0)
    fitted, _ = cv2.findHomography(start, goal, cv2.RANSAC, _TOLERANCE * pixel, maxIters=3000)
    if fitted is None:
        return homography, np.zeros(0), compared
    distances = np.linalg.norm(cv2.perspectiveTransform(start[None], fitted)[0] - goal, axis=1) / pixel
    return np.asarray(fitted, np.float64), distances[distances <= _TOLERANCE], compared


def _matched(visible: Map, infrared: Map, homography: Matrix, patch: int, reach: int) -> tuple[Map, Map, int]:
    """Find patches of the infrared map in the visible one.

    Returns:
        Places in the visible map, the places where the homography had put the same patch, and how many were compared.
    """
    edges, warped = _edges(visible), _edges(_warped(infrared, homography, visible.shape))
    covered = _covered(infrared.shape, homography, visible.shape)
    half, (height, width) = patch // 2, visible.shape
    start, goal, compared = [], [], 0
    for y, x in product(*(range(half + reach, side - half - reach, half) for side in (height, width))):
        if not covered[y - half : y + half, x - half : x + half].all():
            continue
        compared += 1
        wide = half + reach
        around = edges[y - wide : y + wide, x - wide : x + wide]
        scores = cv2.matchTemplate(around, warped[y - half : y + half, x - half : x + half], cv2.TM_CCOEFF_NORMED)
        _, _, _, (column, row) = cv2.minMaxLoc(scores)
        if 0 < column < 2 * reach and 0 < row < 2 * reach:
            dx = column - reach + _peak(*scores[row, column - 1 : column + 2])
            dy = row - reach + _peak(*scores[row - 1 : row + 2, column])
            start.append((x + dx, y + dy))
            goal.append((x, y))
    return np.array(start, np.float32).reshape(-1, 2), np.array(goal, np.float32).reshape(-1, 2), compared


def _peak(before: float, here: float, after: float) -> float:
    """Return where the parabola through three values has its peak, from the middle one."""
    curvature = before - 2 * here + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _largest_move(homography: Matrix, scaled: Matrix, size: tuple[int, int]) -> float:
    height, width = size
    corners = np.array([[[x, y] for x in (0, width - 1) for y in (0, height - 1)]], np.float32)
    back = cv2.perspectiveTransform(cv2.perspectiveTransform(corners, homography), np.linalg.inv(scaled))
    return float(np.linalg.norm(back - corners, axis=2).max())
