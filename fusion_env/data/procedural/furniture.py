"""Street furniture: lamps, signs, utility poles with wires, posters, cones, railings."""

import cv2
import numpy as np

from fusion_env.data.procedural.canvas import Canvas, Light, capsule
from fusion_env.data.procedural.lettering import lettering

__all__ = ["paint_cone", "paint_lamp", "paint_poster", "paint_railing", "paint_sign", "paint_wires"]

_METAL = np.array([0.30, 0.31, 0.32])


Point = tuple[float, float, float]


def _outline(canvas: Canvas, a: Point, b: Point, radius: float) -> np.ndarray:
    """Outline in pixels of a round bar between two world points."""
    (ax, ay), (bx, by) = canvas.camera.project(np.array([a, b])).tolist()
    scale = canvas.camera.focal * radius
    return capsule((ax, ay), (bx, by), max(scale / a[2], 0.3), max(scale / b[2], 0.3))


def _bar(
    canvas: Canvas, a: Point, b: Point, radius: float, colour: np.ndarray, heat: float, shade: float = 0.8
) -> None:
    """Paint a round bar between two world points."""
    canvas.polygon(_outline(canvas, a, b, radius), colour, heat, (a[2] + b[2]) / 2, shade)


def paint_lamp(
    canvas: Canvas, x: float, z: float, height: float, reach: float, colour: tuple[float, float, float], power: float
) -> None:
    """Paint a street lamp whose arm points ``reach`` metres sideways; ``power`` 0 is switched off."""
    heat = canvas.climate.heated(6.0, 4.0)
    _bar(canvas, (x, 0.0, z), (x, height, z), 0.07, _METAL * 0.7, heat)
    _bar(canvas, (x, height, z), (x + reach, height + 0.25, z), 0.045, _METAL * 0.7, heat)
    head = (x + reach, height + 0.2, z)
    _bar(
        canvas, (head[0] - 0.3, head[1], z), (head[0] + 0.3, head[1], z), 0.12, _METAL, heat + (12.0 if power else 0.0)
    )
    if power:
        ends = canvas.camera.project(np.array([[head[0] - 0.25, head[1] - 0.1, z], [head[0] + 0.25, head[1] - 0.1, z]]))
        size = max(0.1 * canvas.camera.focal / z, 0.6)
        canvas.polygon(
            capsule(tuple(ends[0]), tuple(ends[1]), size, size), 0.5, heat + 14.0, z, 1.0, np.asarray(colour) * 7.0
        )
        canvas.lights.append(Light(*head, colour, power))


def paint_sign(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """Paint a traffic sign on a post: disc, triangle or board."""
    heat = canvas.climate.heated(6.0, 3.0)
    top = float(rng.uniform(2.1, 2.8))
    _bar(canvas, (x, 0.0, z), (x, top, z), 0.035, _METAL, heat + 0.5)
    scale = canvas.camera.focal / z
    centre = canvas.camera.project(np.array([[x, top, z]]))[0]
    corners = int(rng.choice([3, 4, 20]))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + (np.pi / 4 if corners == 4 else -np.pi / 2)
    outline = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.36 * scale
    rim = np.array([[0.55, 0.03, 0.03], [0.04, 0.12, 0.45], [0.6, 0.42, 0.03]])[int(rng.integers(3))]
    canvas.polygon(centre + outline, rim, heat - 1.5, z, 0.95)
    canvas.polygon(centre + outline * 0.72, (0.75, 0.75, 0.73) if corners != 4 else rim * 1.3, heat - 1.5, z, 0.95)
    stroke = np.array([[-0.07, -0.16], [0.07, -0.16], [0.05, 0.16], [-0.05, 0.16]]) * scale
    canvas.polygon(centre + stroke, 0.03 if corners != 4 else 0.75, heat - 1.5, z, 0.9)


def paint_poster(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """Paint a poster board full of lines of text, which the infrared camera sees as a blank board."""
    camera = canvas.camera
    width, height, low = float(rng.uniform(1.0, 2.2)), float(rng.uniform(1.2, 1.8)), 0.7
    heat = canvas.climate.heated(7.0, 2.0)
    for post in (x - width / 2, x + width / 2):
        _bar(canvas, (post, 0.0, z), (post, low + height, z), 0.04, _METAL, heat)
    corners = camera.project(np.array([[x - width / 2, low + height, z], [x + width / 2, low, z]]))
    window = canvas.window(*corners[0], *corners[1])
    if window is None:
        return
    sheet = np.full((96, 96, 3), rng.uniform(0.35, 0.8, 3), np.float32)
    ink = rng.uniform(0.0, 0.25, 3)
    sheet[8:44, 8:60] = rng.uniform(0.05, 0.8, 3)
    for row in range(46, 84, 13):
        line = cv2.resize(lettering(rng, 9), (86, 11), interpolation=cv2.INTER_AREA)[..., None]
        sheet[row : row + 11, 5:91] += line * (ink - sheet[row : row + 11, 5:91])
    gx, gy = canvas.grid(window)
    size = np.maximum(corners[1] - corners[0], 1e-3)
    u, v = np.broadcast_arrays((gx - corners[0, 0]) / size[0], (gy - corners[0, 1]) / size[1])
    mask = np.clip((0.5 - np.abs(u - 0.5)) * size[0] + 0.5, 0, 1) * np.clip(
        (0.5 - np.abs(v - 0.5)) * size[1] + 0.5, 0, 1
    )
    small = (
        cv2.resize(sheet, (max(int(size[0]), 2), max(int(size[1]), 2)), interpolation=cv2.INTER_AREA)
        if size[0] < 96
        else sheet
    )
    at = [(c * n - 0.5).astype(np.float32) for c, n in ((u, small.shape[1]), (v, small.shape[0]))]
    picture = cv2.remap(small, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    canvas.paint(mask.astype(np.float32), window, picture, heat + 0.4, z, 0.85)


def paint_cone(canvas: Canvas, x: float, z: float) -> None:
    """Paint a traffic cone with a white band."""
    heat = canvas.climate.heated(4.0, 0.5)
    for low, high, wide, narrow, colour in (
        (0.0, 0.7, 0.17, 0.03, (0.62, 0.13, 0.02)),
        (0.28, 0.45, 0.115, 0.08, (0.8, 0.8, 0.8)),
    ):
        points = np.array([[x - wide, low, z], [x + wide, low, z], [x + narrow, high, z], [x - narrow, high, z]])
        canvas.polygon(canvas.camera.project(points), colour, heat, z, 0.9)


def paint_railing(canvas: Canvas, x: float, near: float, far: float, heated: float) -> None:
    """Paint a railing along the road between two distances."""
    spans = [((x, 0.0, z), (x, 0.95, z)) for z in np.arange(far, near, -1.6).tolist()]
    spans += [((x, height, far), (x, height, near)) for height in (0.5, 0.95)]
    outlines = [_outline(canvas, a, b, 0.03) for a, b in spans]
    canvas.polygons(outlines, _METAL * 1.2, canvas.climate.ambient + heated, (near + far) / 2, 0.8)


def paint_wires(canvas: Canvas, x: float, places: list[float]) -> None:
    """Paint utility poles at distances ``places`` (far to near) and the wires between them."""
    heat = canvas.climate.heated(5.0, 3.0)
    for z in places:
        _bar(canvas, (x, 0.0, z), (x, 8.0, z), 0.13, np.array([0.14, 0.11, 0.08]), heat, 0.7)
        _bar(canvas, (x - 1.0, 7.4, z), (x + 1.0, 7.4, z), 0.06, np.array([0.14, 0.11, 0.08]), heat, 0.7)
    for far, near in zip(places[:-1], places[1:], strict=True):
        for offset in (-0.9, 0.0, 0.9):
            t = np.linspace(0, 1, 9)
            depths = far + (near - far) * t
            points = canvas.camera.project(np.stack([np.full(9, x + offset), 7.5 - 2.0 * t * (1 - t), depths], 1))
            pieces = [capsule(tuple(a), tuple(b), 0.3, 0.3) for a, b in zip(points[:-1], points[1:], strict=True)]
            canvas.polygons(pieces, 0.03, heat - 4.0, float(depths.mean()), 0.5, opacity=0.6)
