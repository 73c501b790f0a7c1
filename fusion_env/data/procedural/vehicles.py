"""Cars, vans, buses: small meshes projected face by face."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fusion_env.data.procedural.canvas import Canvas, Light, Value

__all__ = ["Vehicle", "draw_vehicle", "paint_vehicle", "vehicle_outline"]

# Side profiles as (length, height) pairs from the rear to the front, in shares of half the length and of the height.
_BODY = {
    "sedan": (
        (-1.0, 0.20),
        (-1.0, 0.52),
        (-0.97, 0.66),
        (-0.66, 0.69),
        (0.36, 0.66),
        (0.90, 0.53),
        (0.99, 0.44),
        (1.0, 0.18),
    ),
    "hatch": (
        (-1.0, 0.20),
        (-1.0, 0.50),
        (-0.97, 0.62),
        (-0.9, 0.64),
        (0.42, 0.62),
        (0.90, 0.51),
        (0.99, 0.42),
        (1.0, 0.18),
    ),
    "suv": (
        (-1.0, 0.24),
        (-1.0, 0.50),
        (-0.98, 0.60),
        (-0.94, 0.62),
        (0.40, 0.62),
        (0.92, 0.56),
        (0.99, 0.48),
        (1.0, 0.22),
    ),
    "van": (
        (-1.0, 0.16),
        (-1.0, 0.46),
        (-0.99, 0.50),
        (-0.99, 0.51),
        (0.62, 0.50),
        (0.93, 0.42),
        (0.99, 0.34),
        (1.0, 0.14),
    ),
    "bus": (
        (-1.0, 0.12),
        (-1.0, 0.38),
        (-1.0, 0.40),
        (-1.0, 0.42),
        (0.97, 0.42),
        (0.99, 0.40),
        (1.0, 0.34),
        (1.0, 0.12),
    ),
}
_CABIN = {
    "sedan": ((-0.72, 0.68), (-0.42, 0.97), (-0.12, 1.0), (0.06, 0.97), (0.44, 0.655)),
    "hatch": ((-0.94, 0.63), (-0.78, 0.96), (-0.3, 1.0), (0.08, 0.97), (0.52, 0.61)),
    "suv": ((-0.96, 0.61), (-0.86, 0.97), (-0.3, 1.0), (0.10, 0.97), (0.48, 0.61)),
    "van": ((-0.99, 0.50), (-0.97, 0.97), (-0.3, 1.0), (0.38, 0.97), (0.74, 0.48)),
    "bus": ((-1.0, 0.41), (-0.995, 0.98), (-0.3, 1.0), (0.93, 0.98), (0.98, 0.41)),
}
_SIZE = {
    "sedan": (4.6, 1.82, 1.46),
    "hatch": (4.1, 1.76, 1.52),
    "suv": (4.7, 1.9, 1.75),
    "van": (5.3, 2.0, 2.3),
    "bus": (10.5, 2.5, 3.1),
}
_PAINT = (
    (0.70, 0.70, 0.70),
    (0.42, 0.43, 0.44),
    (0.035, 0.035, 0.04),
    (0.13, 0.135, 0.14),
    (0.40, 0.03, 0.03),
    (0.05, 0.09, 0.26),
    (0.50, 0.47, 0.38),
    (0.75, 0.75, 0.73),
)
_GLASS = np.array([0.035, 0.045, 0.05])
_BELT = 0.66
_NEAREST = 0.7


@dataclass(frozen=True)
class Vehicle:
    """A vehicle standing on the ground.

    Attributes:
        kind: A key of the profile tables.
        x: X of its middle in metres.
        z: Z of its middle in metres.
        yaw: Heading: 0 drives away from the camera, pi towards it, pi/2 to the right.
        colour: Linear RGB of the paint.
        running: Whether the engine is (or was just) running: hot bonnet, tyres, exhaust and ground.
        lights: Whether head and tail lights are lit.
        braking: Whether the brake lights are lit.
    """

    kind: str
    x: float
    z: float
    yaw: float
    colour: tuple[float, float, float]
    running: bool
    lights: bool
    braking: bool

    def world(self, along: np.ndarray, across: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Turn local coordinates in metres (forward, right, up) into world points [n, 3]."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        points = np.empty((len(along), 3))
        points[:, 0], points[:, 1], points[:, 2] = (
            self.x + along * sin + across * cos,
            up,
            self.z + along * cos - across * sin,
        )
        return points


def draw_vehicle(rng: np.random.Generator, x: float, z: float, yaw: float, running: bool, lights: bool) -> Vehicle:
    """Draw kind and colour of a vehicle at a given place."""
    kind = str(rng.choice(["sedan", "hatch", "suv", "van", "bus"], p=[0.35, 0.25, 0.24, 0.13, 0.03]))
    colour = _PAINT[int(rng.integers(len(_PAINT)))]
    return Vehicle(kind, x, z, yaw, colour, running, lights, bool(running and rng.random() < 0.4))


def vehicle_outline(vehicle: Vehicle) -> np.ndarray:
    """Corners [8, 3] of the bounding prism: four on the ground, four at the roof."""
    length, width, height = _SIZE[vehicle.kind]
    a, b = np.array([-1, 1, 1, -1]) * length / 2, np.array([-1, -1, 1, 1]) * width / 2
    low = vehicle.world(a, b, np.zeros(4))
    high = vehicle.world(0.8 * a, 0.9 * b, np.full(4, height))
    return np.concatenate([low, high])


class _Painter:
    """Paint the faces of one vehicle that look towards the camera."""

    def __init__(self, canvas: Canvas, vehicle: Vehicle, owner: int) -> None:
        self.canvas, self.vehicle, self.owner = canvas, vehicle, owner
        self.length, self.width, self.height = _SIZE[vehicle.kind]
        self.eye = canvas.camera.eye
        self.heart = (vehicle.x, 0.5 * self.height, vehicle.z)
        shift = canvas.climate.sun_shift
        sun = np.array([-shift[0], 1.0, -shift[1]])
        self.sun = sun / np.linalg.norm(sun)

    def corners(self, along: ArrayLike, across: ArrayLike, up: ArrayLike) -> np.ndarray:
        """World points from shares of half the length, half the width and the height."""
        return self.vehicle.world(
            np.asarray(along, float) * self.length / 2,
            np.asarray(across, float) * self.width / 2,
            np.asarray(up, float) * self.height,
        )

    def facing(self, points: np.ndarray) -> np.ndarray | None:
        """Outward normal of a face, or None if it looks away from the camera."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[:3].tolist()
        ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        size = math.sqrt(nx * nx + ny * ny + nz * nz)
        if size < 1e-9:
            return None
        mx, my, mz = ((a + c) / 2 for a, c in zip((ax, ay, az), (cx, cy, cz), strict=True))
        outward = nx * (mx - self.heart[0]) + ny * (my - self.heart[1]) + nz * (mz - self.heart[2])
        sign = math.copysign(1.0 / size, outward)
        seen = (nx * -mx + ny * (self.eye - my) + nz * -mz) * sign
        return np.array((nx * sign, ny * sign, nz * sign)) if seen > 0 else None

    def face(
        self,
        points: np.ndarray,
        colour: np.ndarray,
        heat: float,
        gloss: float = 0.12,
        falloff: float = 0.0,
        glow: Value = 0.0,
    ) -> bool:
        """Paint one face if it is visible; ``gloss`` is the share of sky that it mirrors."""
        normal = self.facing(points)
        if normal is None or points[:, 2].min() < _NEAREST:
            return False
        climate = self.canvas.climate
        shade = float(np.clip(0.30 + 0.75 * (normal @ self.sun) + 0.15 * normal[1], 0.08, 1.0))
        up = float(np.clip(normal[1], 0.0, 1.0))
        mirrored = gloss * (0.3 + 0.7 * up) * np.array([0.55, 0.62, 0.70])
        heat = heat - 3.0 * up * (1.0 - climate.sun) + 3.0 * climate.sun * max(float(normal @ self.sun), 0.0)
        self.canvas.polygon(
            self.canvas.camera.project(points),
            np.clip(colour + mirrored, 0, 0.95),
            heat,
            self.vehicle.z,
            shade,
            glow,
            self.owner,
            falloff,
        )
        return True


def _shell(painter: _Painter) -> None:
    """Body, cabin and glass."""
    vehicle, climate = painter.vehicle, painter.canvas.climate
    colour = np.asarray(vehicle.colour)
    body, cabin = np.array(_BODY[vehicle.kind]), np.array(_CABIN[vehicle.kind])
    cold = climate.heated(7.0, 0.0) - 0.5
    warm = cold + (2.0 if vehicle.running else 0.0)
    glass = climate.heated(2.0, 0.0) - 4.0
    for side in (-1.0, 1.0):
        points = painter.corners(body[:, 0], np.full(len(body), side), body[:, 1])
        painter.face(points, colour, warm, 0.10, 0.45)
    for index, (a, b) in enumerate(zip(body[:-1], body[1:], strict=True)):
        engine = 7.0 * vehicle.running * (1.0 if 0.5 * (a[0] + b[0]) > 0.4 else 0.1)
        quad = painter.corners([a[0], b[0], b[0], a[0]], [-1, -1, 1, 1], [a[1], b[1], b[1], a[1]])
        painter.face(quad, colour * (0.8 if index in (0, len(body) - 2) else 1.0), warm + engine, 0.25, 0.25)
    taper = 1.0 - 0.20 * np.clip((cabin[:, 1] - _BELT) / (1 - _BELT), 0, 1)
    taper = taper if vehicle.kind not in ("van", "bus") else 1.0 - 0.07 * (cabin[:, 1] - cabin[:, 1].min())
    for side in (-1.0, 1.0):
        if painter.face(painter.corners(cabin[:, 0], side * taper, cabin[:, 1]), colour, cold, 0.12):
            _side_windows(painter, cabin, taper, side, glass)
    last = len(cabin) - 2
    for index in range(last + 1):
        a, b, wa, wb = cabin[index], cabin[index + 1], taper[index], taper[index + 1]
        quad = painter.corners([a[0], b[0], b[0], a[0]], [-wa, -wb, wb, wa], [a[1], b[1], b[1], a[1]])
        visible = painter.face(quad, colour, cold, 0.3)
        if visible and index in (0, last) and not (index == 0 and vehicle.kind == "van" and colour[0] > 0.6):
            middle = quad.mean(axis=0)
            painter.face(middle + (quad - middle) * 0.84, _GLASS, glass, 0.28, 0.3)


def _side_windows(painter: _Painter, cabin: np.ndarray, taper: np.ndarray, side: float, glass: float) -> None:
    """Two or more panes of glass in the side of the cabin."""
    low, high = cabin[:, 1].min(), 1.0
    bottom, top = low + 0.12 * (high - low), low + 0.82 * (high - low)
    rear = np.interp([bottom, top], cabin[:2, 1], cabin[:2, 0]) + 0.05
    front = np.interp([bottom, top], cabin[:-3:-1, 1], cabin[:-3:-1, 0]) - 0.05
    panes = {"bus": 7, "van": 3}.get(painter.vehicle.kind, 2)
    half = np.interp([bottom, top], [low, high], [taper.max(), taper.min()]) * side * 1.005
    for pane in range(panes):
        if painter.vehicle.kind == "van" and pane < 2 and painter.vehicle.colour[0] > 0.4:
            continue
        s, e = (pane + 0.04) / panes, (pane + 0.96) / panes
        lower = rear[0] + (front[0] - rear[0]) * np.array([s, e])
        upper = rear[1] + (front[1] - rear[1]) * np.array([s, e])
        points = painter.corners(
            [*lower, *upper[::-1]], [half[0], half[0], half[1], half[1]], [bottom, bottom, top, top]
        )
        painter.face(points, _GLASS, glass, 0.18, 0.3)


def _wheels(painter: _Painter) -> None:
    """Tyres and rims on the visible side."""
    vehicle, climate = painter.vehicle, painter.canvas.climate
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    radius = 0.33 if vehicle.kind not in ("van", "bus") else 0.38 + 0.1 * (vehicle.kind == "bus")
    heat = climate.heated(5.0, 1.5) + 7.0 * vehicle.running
    for at in (-0.62, 0.63):
        for side in (-1.0, 1.0):
            along = at + radius * np.cos(angle) / (painter.length / 2)
            points = painter.corners(
                along, np.full(16, side * 1.01), (radius + radius * np.sin(angle)) / painter.height
            )
            hub = points.mean(axis=0)
            arch = hub + (points - hub) * 1.22 + (0.0, 0.03, 0.0)
            if not painter.face(arch, np.full(3, 0.015), heat - 3.0, 0.0):
                continue
            painter.face(points, np.full(3, 0.03), heat, 0.02)
            painter.face(
                hub + (points - hub) * 0.6, np.array([0.34, 0.34, 0.35]), heat - 2.0 + 4.0 * vehicle.running, 0.15
            )


def _panel(
    painter: _Painter,
    end: float,
    sides: tuple[float, float],
    heights: tuple[float, float],
    colour: tuple[float, float, float],
    heat: float,
    glow: Value = 0.0,
) -> bool:
    """Paint a rectangle on the front (``end`` 1) or the rear (-1); tell whether that end is seen."""
    (left, right), (low, high) = sides, heights
    quad = painter.corners([end * 1.004] * 4, [left, right, right, left], [low, low, high, high])
    return painter.face(quad, np.asarray(colour, float), heat, 0.05, 0.0, glow)


def _front_end(painter: _Painter) -> None:
    """Bumper, grille, plate and headlamps, if the front is seen."""
    vehicle = painter.vehicle
    top = float(_BODY[vehicle.kind][-2][1])
    cold = painter.canvas.climate.heated(6.0, 0.0)
    hot = cold + 8.0 * vehicle.running
    if not _panel(painter, 1.0, (-0.92, 0.92), (0.62 * top, 0.40 * top), (0.05, 0.05, 0.05), hot):
        return
    _panel(painter, 1.0, (-0.55, 0.55), (0.66 * top, 0.92 * top), (0.04, 0.04, 0.045), hot)
    _panel(painter, 1.0, (-0.24, 0.24), (0.48 * top, 0.62 * top), (0.7, 0.7, 0.65), cold)
    glow = (6.0, 5.6, 4.8) if vehicle.lights else 0.0
    for side in (-1.0, 1.0):
        lens, warmth = (side * 0.93, side * 0.60), cold + 6.0 * vehicle.lights
        _panel(painter, 1.0, lens, (0.72 * top, 0.98 * top), (0.6, 0.62, 0.64), warmth, glow)
        _lamp(painter, 1.0, side * 0.75, 0.85 * top, (1.0, 0.95, 0.82), 9.0 if vehicle.lights else 0.0)


def _rear_end(painter: _Painter) -> None:
    """Bumper, plate, exhaust and tail lamps, if the rear is seen."""
    vehicle = painter.vehicle
    top = float(_BODY[vehicle.kind][1][1])
    cold = painter.canvas.climate.heated(6.0, 0.0)
    if not _panel(painter, -1.0, (-0.92, 0.92), (0.24, 0.62 * top), (0.06, 0.06, 0.06), cold + 1.0):
        return
    _panel(painter, -1.0, (-0.26, 0.26), (0.68 * top, 0.84 * top), (0.7, 0.68, 0.55), cold - 0.5)
    _panel(painter, -1.0, (0.45, 0.65), (0.20, 0.27), (0.2, 0.2, 0.2), cold + 25.0 * vehicle.running)
    level = 1.6 if vehicle.braking else 0.35 * vehicle.lights
    glow = (2.0 * level, 0.10 * level, 0.05 * level)
    for side in (-1.0, 1.0):
        lens = (side * 0.96, side * 0.66)
        _panel(painter, -1.0, lens, (0.80 * top, 1.08 * top), (0.35, 0.02, 0.02), cold + 1.5, glow)
        _lamp(painter, -1.0, side * 0.8, top, (1.0, 0.08, 0.04), 0.9 * level)


def _lamp(
    painter: _Painter, end: float, across: float, up: float, colour: tuple[float, float, float], power: float
) -> None:
    """Register a light of the vehicle."""
    if power > 0.0:
        x, y, z = painter.corners([end * 1.05], [across], [up])[0]
        painter.canvas.lights.append(Light(float(x), float(y), float(z), colour, power * 0.3))


def _underside(painter: _Painter) -> None:
    """Paint what is seen below the body: shadow or engine heat on the ground, and the tyres of the near end."""
    canvas, vehicle = painter.canvas, painter.vehicle
    climate = canvas.climate
    foot = painter.corners([-1, 1, 1, -1], [-1, -1, 1, 1], [0, 0, 0, 0])
    softness = 0.2 * canvas.camera.focal / vehicle.z
    canvas.shadow(canvas.camera.project(foot), 0.85, -5.0 if vehicle.running else 1.5, softness)
    dark = painter.corners([-0.93, 0.93, 0.93, -0.93], [-0.9, -0.9, 0.9, 0.9], [0.02, 0.02, 0.02, 0.02])
    below = climate.heated(2.0, 2.0) + 4.0 * vehicle.running
    canvas.polygon(canvas.camera.project(dark), 0.02, below, vehicle.z, 0.1, 0.0, painter.owner)
    for side in (-0.9, 0.9):
        skirt = painter.corners([-0.9, 0.9, 0.9, -0.9], [side] * 4, [0.1, 0.1, 0.24, 0.24])
        painter.face(skirt, np.full(3, 0.02), below, 0.0)
    if abs(math.sin(vehicle.yaw)) < 0.05:
        near_end = -0.8 if math.cos(vehicle.yaw) > 0 else 0.8
        for middle in (-0.85, 0.85):
            sides = [middle - 0.12, middle + 0.12, middle + 0.12, middle - 0.12]
            tyre = painter.corners([near_end] * 4, sides, [0, 0, 0.3, 0.3])
            painter.face(tyre, np.full(3, 0.02), climate.ambient + 3.0 + 8.0 * vehicle.running, 0.0)


def paint_vehicle(canvas: Canvas, vehicle: Vehicle, owner: int) -> None:
    """Paint a vehicle with the dark (and, if it runs, warm) ground below it; nothing if it reaches the camera."""
    painter = _Painter(canvas, vehicle, owner)
    if painter.corners([-1, 1, 1, -1], [-1, -1, 1, 1], [0, 0, 0, 0])[:, 2].min() < _NEAREST:
        return
    _underside(painter)
    _shell(painter)
    _wheels(painter)
    _front_end(painter)
    _rear_end(painter)
