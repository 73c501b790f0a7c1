"""Trees, conifers, bushes and hedges."""

import math

import numpy as np

from fusion_env.data.procedural.canvas import Canvas, capsule, rgb
from fusion_env.data.procedural.noise import fbm

__all__ = ["paint_bush", "paint_tree"]


def _leaves(
    canvas: Canvas, blobs: np.ndarray, z: float, albedo: np.ndarray, density: float, rng: np.random.Generator
) -> None:
    """Paint foliage: a union of ellipses (X, Y, half width, half height in metres) with a ragged, gappy edge."""
    camera, climate = canvas.camera, canvas.climate
    scale = camera.focal / z
    left, right = (blobs[:, 0] - 1.3 * blobs[:, 2]).min(), (blobs[:, 0] + 1.3 * blobs[:, 2]).max()
    bottom, top = (blobs[:, 1] - 1.3 * blobs[:, 3]).min(), (blobs[:, 1] + 1.3 * blobs[:, 3]).max()
    window = canvas.window(
        camera.centre + left * scale,
        camera.horizon + (camera.eye - top) * scale,
        camera.centre + right * scale,
        camera.horizon + (camera.eye - bottom) * scale,
    )
    if window is None:
        return
    gx, gy = canvas.grid(window)
    x, y = (gx - camera.centre) / scale, camera.eye - (gy - camera.horizon) / scale
    inside, lit = np.full((gy.size, gx.size), -9.0, np.float32), np.zeros((gy.size, gx.size), np.float32)
    side = -float(np.sign(climate.sun_shift[0]))
    for bx, by, half_w, half_h in blobs.tolist():
        nx, ny = (x - bx) / half_w, (y - by) / half_h
        field = 1.0 - nx**2 - ny**2
        closer = field > inside
        inside = np.where(closer, field, inside)
        lit = np.where(closer, 0.55 * ny + 0.35 * side * nx, lit)
    u, v = np.broadcast_arrays(x.astype(np.float32), y.astype(np.float32))
    offset = float(rng.uniform(0, 60))
    clumps = fbm(u + offset, v, 0.9, 2, 1 / scale)
    leaf = fbm(u, v + offset, 0.35, 4, 1 / scale, 0.9)
    edge = inside + 0.36 * clumps + 0.34 * leaf
    sharp = float(np.clip(scale / 6.0, 1.2, 6.0))
    mask = np.clip(edge * sharp * 2 + 0.5, 0, 1) * np.clip((density + 0.6 * clumps + 0.7 * leaf) * sharp + 0.5, 0, 1)
    shade = np.clip(0.45 + 0.5 * lit + 0.20 * clumps + 0.22 * leaf, 0.04, 1.0)
    tone = np.clip(1 + 0.28 * leaf + 0.12 * clumps, 0.3, 2.0)
    heat = climate.heated(2.5, 0.0) + 0.8 * leaf + 0.5 * clumps + 1.2 * climate.sun * lit
    canvas.paint(mask.astype(np.float32), window, rgb(albedo) * tone[..., None], heat, z, shade)


def _branches(
    canvas: Canvas, base: tuple[float, float], height: float, z: float, rng: np.random.Generator, bare: bool
) -> None:
    """Paint trunk and branches of a tree that stands at X, Z on the ground."""
    camera, climate = canvas.camera, canvas.climate
    scale = camera.focal / z
    bark = np.array([0.13, 0.105, 0.08]) * rng.uniform(0.6, 1.5)
    heat = climate.heated(3.5, 2.0) + rng.uniform(-0.5, 1.0)

    outlines: list[np.ndarray] = []

    def limb(x: float, y: float, angle: float, length: float, radius: float, order: int) -> None:
        end = (x + length * math.sin(angle), y + length * math.cos(angle))
        start, stop = (
            (camera.centre + px * scale, camera.horizon + (camera.eye - py) * scale) for px, py in ((x, y), end)
        )
        outlines.append(capsule(start, stop, max(radius * scale, 0.25), max(0.65 * radius * scale, 0.2)))
        if order == 0 or radius * scale < 0.25:
            return
        for turn in (rng.uniform(0.25, 0.75, 2) * (1, -1)).tolist():
            limb(*end, angle + turn, length * rng.uniform(0.6, 0.85) * (1.0 if bare else 0.6), radius * 0.62, order - 1)
        if bare:
            limb(*end, angle + rng.normal(0, 0.2), length * 0.8, radius * 0.6, order - 1)

    limb(
        *base,
        rng.normal(0, 0.05),
        height * (0.28 if bare else 0.42),
        height * rng.uniform(0.018, 0.035),
        4 if bare else 2,
    )
    canvas.polygons(outlines, bark, heat, z, rng.uniform(0.4, 0.8))


def paint_tree(canvas: Canvas, x: float, z: float, height: float, kind: str, rng: np.random.Generator) -> None:
    """Paint a tree: ``kind`` is ``"leafy"``, ``"conifer"`` or ``"bare"``."""
    if kind == "conifer":
        levels = np.linspace(0.15, 0.97, 7)
        width = height * rng.uniform(0.18, 0.26)
        blobs = np.array([[x + rng.normal(0, 0.05), height * t, width * (1.08 - t), height * 0.10] for t in levels])
        _branches(canvas, (x, 0.0), height * 0.7, z, rng, False)
        _leaves(canvas, blobs, z, np.array([0.035, 0.06, 0.03]) * rng.uniform(0.8, 1.4), 0.9, rng)
        return
    _branches(canvas, (x, 0.0), height, z, rng, kind == "bare")
    if kind == "bare":
        return
    count = int(rng.integers(7, 14))
    spread = height * rng.uniform(0.22, 0.34)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = np.sqrt(rng.random(count))
    blobs = np.stack(
        [
            x + spread * radius * np.cos(angle),
            height * 0.66 + height * 0.2 * radius * np.sin(angle),
            spread * rng.uniform(0.35, 0.65, count),
            height * rng.uniform(0.08, 0.16, count),
        ],
        axis=1,
    )
    greens = np.array([[0.06, 0.10, 0.03], [0.09, 0.13, 0.035], [0.05, 0.075, 0.04], [0.14, 0.11, 0.03]])
    colour = greens[int(rng.integers(len(greens)))] * rng.uniform(0.8, 1.4)
    _leaves(canvas, blobs, z, colour, float(rng.uniform(0.25, 1.0)), rng)


def paint_bush(canvas: Canvas, x: float, z: float, width: float, height: float, rng: np.random.Generator) -> None:
    """Paint a bush or a piece of hedge standing on the ground."""
    count = max(int(width / (0.7 * height)), 1)
    along = x + (np.arange(count) - (count - 1) / 2) * width / count
    blobs = np.stack(
        [
            along,
            np.full(count, 0.42 * height),
            np.full(count, 0.75 * width / count),
            0.62 * height * rng.uniform(0.85, 1.15, count),
        ],
        axis=1,
    )
    _leaves(canvas, blobs, z, np.array([0.06, 0.095, 0.03]) * rng.uniform(0.7, 1.3), 1.4, rng)
