"""Turn, scale and shift the infrared image of registered pairs, and see whether `student.fuse.align` finds it again.

    python experiments/measurements/alignment_accuracy.py --data DIR ... --pairs 12

Every third infrared image also loses a third of its size. Each is aligned with its own visible image, where the error
is the mean distance of nine points from where they belong, and with those of three other pairs, which must be refused.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.output import markdown_table
from fusion_env.data import PairedFolder
from student.fuse import AlignmentError, align

__all__ = ["draw_homography", "main"]

TURN_DEGREES, SCALE, SHIFT, TILT = 5.0, 0.1, 0.08, 0.02
"""Largest turn, change of scale, shift and displacement of each corner, the last two as shares of the width."""
OTHERS = (3, 7, 11)
"""How far away in the list the pairs are whose visible images do not belong to an infrared one."""
_PLACES = (0.1, 0.5, 0.9)


def draw_homography(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Draw how an image of this size is moved, a matrix [3, 3] on pixels (x, y)."""
    turn, scale = rng.uniform(-TURN_DEGREES, TURN_DEGREES), rng.uniform(1 - SCALE, 1 + SCALE)
    affine = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale), np.float64)
    affine[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * width
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    tilted = corners + rng.uniform(-TILT, TILT, (4, 2)).astype(np.float32) * width
    return np.asarray(cv2.getPerspectiveTransform(corners, tilted) @ np.vstack([affine, [0, 0, 1]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = _parser().parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    images = []
    for root in args.data:
        source = PairedFolder(root)
        for index in sorted(rng.permutation(len(source))[: args.pairs].tolist()):
            pair = source.load(index)
            images.append((pair.ir[0].numpy(), np.ascontiguousarray(pair.vis.permute(1, 2, 0).numpy())))
    errors, others = [], 0
    for number, (ir, vis) in enumerate(progress_bar(images, "pairs")):
        moved, motion = _moved(ir, rng, shrunk=number % 3 == 0)
        errors.append(_error(moved, vis, motion))
        for distance in OTHERS:
            others += _error(moved, images[(number + distance) % len(images)][1], motion) is not None
    found = [error for error in errors if error is not None]
    rows: list[list[str | float]] = [
        ["pairs", len(errors)],
        ["found", len(found)],
        ["median error, % of the width", float(np.median(found)) if found else "none"],
        ["largest error, % of the width", max(found) if found else "none"],
        ["pairs of different scenes", len(errors) * len(OTHERS)],
        ["of these accepted", others],
    ]
    print(markdown_table(["", "value"], rows, decimals=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of registered pairs")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of each folder")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the motions")
    return parser


def _moved(
    ir: NDArray[np.uint8], rng: np.random.Generator, *, shrunk: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    height, width = ir.shape
    motion = draw_homography(rng, height, width)
    moved = cv2.warpPerspective(ir, motion, (width, height))
    if shrunk:
        size = width * 2 // 3, height * 2 // 3
        factors = size[0] / width, size[1] / height
        moved = cv2.resize(moved, size, interpolation=cv2.INTER_AREA)
        motion = np.diag([*factors, 1.0]) @ motion
    return np.asarray(moved, np.uint8), motion


def _error(moved: NDArray[np.uint8], vis: NDArray[np.uint8], motion: NDArray[np.float64]) -> float | None:
    """Return the mean distance of nine points from their places, in per cent of the width; None if refused."""
    height, width = vis.shape[:2]
    try:
        homography = align(ir=moved, vis=vis).homography
    except AlignmentError:
        return None
    points = np.array([[[x * width, y * height] for x in _PLACES for y in _PLACES]], np.float32)
    seen = cv2.perspectiveTransform(points, np.linalg.inv(motion) @ homography)
    return 100 * float(np.linalg.norm(seen - points, axis=2).mean()) / width


if __name__ == "__main__":
    exit_on_error(main)
