"""Put a street together: draw the weather, the road and everything that stands along it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from fusion_env.data.procedural import backdrop, buildings, furniture, people, plants, vehicles
from fusion_env.data.procedural.canvas import Camera, Canvas, Climate
from fusion_env.data.procedural.lettering import lettering
from fusion_env.data.procedural.noise import sample

__all__ = ["LABELS", "build_scene", "draw_climate"]

LABELS = _PERSON, _VEHICLE = "person", "vehicle"
"""What is labelled."""

_NEAREST_GROUND = 6.5


@dataclass
class _Item:
    """Something to paint: its distance, the paint call, and the corners (world) of what throws its shadow."""

    z: float
    paint: Callable[[], None]
    outline: np.ndarray | None = None


def draw_climate(rng: np.random.Generator, condition: str) -> Climate:
    """Draw weather and light for a condition."""
    low_sun = condition == "glare" and rng.random() < 0.4
    dark = condition == "night" or (condition == "glare" and not low_sun)
    dusk_fog = condition == "fog" and rng.random() < 0.35
    sun = {"day": float(rng.choice([0.0, 0.25, 1.0], p=[0.25, 0.2, 0.55]))}.get(condition, 0.8 if low_sun else 0.0)
    length = rng.uniform(0.7, 2.2) if condition == "day" else rng.uniform(1.5, 2.5)
    angle = rng.uniform(0, 2 * np.pi) if condition == "day" else rng.uniform(-2.2, -0.9)
    return Climate(
        condition=condition,
        ambient=float(rng.uniform(2, 16) if dark else rng.uniform(8, 26)),
        sun=sun,
        sky=float(rng.uniform(0.0, 0.02))
        if dark
        else float(rng.uniform(0.5, 0.75) if dusk_fog else rng.uniform(0.8, 1.1)),
        warmth=float(rng.uniform(0.3, 1.0)) if dark else 0.3,
        sun_shift=(float(length * np.cos(angle)), float(length * np.sin(angle))),
        wet=float(rng.uniform(0.3, 1.0)) if (dark or dusk_fog) and rng.random() < 0.5 else 0.0,
        fog=float(np.exp(rng.uniform(np.log(0.018), np.log(0.07)))) if condition == "fog" else 0.0,
        lamps=dark or dusk_fog,
        bloom=float(rng.uniform(1.8, 3.5)) if condition == "glare" else float(rng.uniform(0.5, 1.3)),
        sun_in_view=low_sun,
    )


def draw_camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    """Draw a camera as in a car or in a walker's hand."""
    horizon, eye = height * rng.uniform(0.36, 0.54), rng.uniform(1.35, 2.1)
    longest = _NEAREST_GROUND * (height - horizon) / eye
    return Camera(
        height=height,
        width=width,
        focal=min(np.sqrt(height * width).item() * rng.uniform(1.0, 1.6), longest),
        horizon=horizon,
        centre=width * rng.uniform(0.35, 0.65),
        eye=eye,
    )


def draw_road(rng: np.random.Generator, park: bool) -> backdrop.Road:
    """Draw a road and its marks."""
    half = float(rng.uniform(1.6, 3.0) if park else rng.uniform(3.2, 6.5))
    lanes: list[tuple[float, bool]] = []
    if not park:
        lanes.append((0.0, bool(rng.random() < 0.6)))
        if rng.random() < 0.4:
            lanes.append((0.2, False))
        if half > 5.0:
            lanes += [(-half / 2, True), (half / 2, True)]
        if rng.random() < 0.5:
            lanes += [(-half + 0.25, False), (half - 0.25, False)]
    return backdrop.Road(
        centre=float(rng.uniform(-0.6, 0.6) * half),
        half=half,
        pavement=float(rng.uniform(0.0, 0.6) if park else rng.uniform(1.5, 4.0)),
        curvature=float(rng.normal(0, 0.0012)) if rng.random() < 0.5 else 0.0,
        verge="grass" if park or rng.random() < 0.35 else "paving",
        surface="setts" if rng.random() < (0.35 if park else 0.12) else "asphalt",
        lanes=tuple(lanes),
        yellow=bool(rng.random() < 0.3),
        crossing=float(rng.uniform(7, 22)) if not park and rng.random() < 0.25 else 0.0,
        word=lettering(rng, 4) if not park and rng.random() < 0.2 else None,
    )


class _Builder:
    """Collect the items of one scene and paint them from far to near."""

    def __init__(self, canvas: Canvas, road: backdrop.Road, park: bool, rng: np.random.Generator) -> None:
        self.canvas, self.road, self.park, self.rng = canvas, road, park, rng
        self.items: list[_Item] = []
        self.labels: dict[int, str] = {}
        self.taken: list[tuple[float, float, float]] = []
        self.near = canvas.camera.ground_depth(canvas.camera.height)
        self.edge = road.half + road.pavement

    def add(self, z: float, paint: Callable[[], None], outline: np.ndarray | None = None) -> None:
        """Queue something for painting."""
        self.items.append(_Item(z, paint, outline))

    def claim(self, label: str) -> int:
        """Number the next labelled object."""
        self.labels[len(self.labels) + 1] = label
        return len(self.labels)

    def free(self, x: float, z: float, radius: float) -> bool:
        """Reserve a disc of ground if nothing stands there yet."""
        if any((x - tx) ** 2 + (z - tz) ** 2 < (radius + r) ** 2 for tx, tz, r in self.taken):
            return False
        self.taken.append((x, z, radius))
        return True

    def distance(self, near: float, far: float) -> float:
        """Draw a distance with equal chances per ratio, so that all sizes occur in the picture."""
        return float(np.exp(self.rng.uniform(np.log(near), np.log(far))))

    def row_of_buildings(self, side: float) -> None:
        """Line one side of the road with buildings."""
        rng, road = self.rng, self.road
        setback = self.edge + float(rng.uniform(0.3, 6.0 if self.park else 2.5))
        z = float(rng.uniform(self.near * 0.8, 18))
        neighbour = 0.0
        while z < 110:
            width, height = float(rng.uniform(8, 22)), 0.0
            if rng.random() < 0.82:
                x = float(road.shift(z + width / 2)) + side * setback
                height = self.building(x, z, width, side, hidden=neighbour)
            gap = float(rng.uniform(2, 12)) if rng.random() < 0.35 else 0.0
            # On a straight road the flank of a house vanishes behind the neighbour that touches it.
            neighbour = height if gap == 0.0 and road.curvature == 0.0 else 0.0
            z += width + gap

    def building(self, x: float, z: float, width: float, side: float, hidden: float) -> float:
        """Set a building along the road, its flank hidden up to a height; return its own height in metres."""
        canvas, shift = self.canvas, self.canvas.climate.sun_shift
        wall = buildings.draw_facade(self.rng, width)
        flank = replace(
            buildings.draw_facade(self.rng, float(self.rng.uniform(8, 14))),
            height=wall.height,
            floor=wall.floor,
            wall=wall.wall,
            brick=wall.brick,
            shop=False,
        )
        to_road = float(np.clip(0.55 + 0.45 * side * np.sign(shift[0]) * min(abs(shift[0]), 1.0), 0.12, 1.0))
        to_camera = float(np.clip(0.5 + 0.4 * np.sign(shift[1]), 0.12, 1.0))
        corners = np.array([[x, up, at] for up in (0.0, wall.height) for at in (z, z + width)])
        back = corners + np.array([side * flank.width, 0.0, 0.0])

        def paint() -> None:
            buildings.paint_side(canvas, wall, x, z, to_road)
            if wall.ridge:
                buildings.paint_roof(canvas, wall, x, z, side * flank.width, to_road)
            if flank.height > hidden:
                buildings.paint_front(canvas, flank, x if side > 0 else x - flank.width, z, to_camera, hidden)

        self.add(z + 0.5 * width, paint, np.concatenate([corners, back]))
        return wall.height

    def closing_building(self) -> None:
        """Close the view with a large building that faces the camera."""
        rng = self.rng
        z = float(rng.uniform(28, 90))
        facade = buildings.draw_facade(rng, float(rng.uniform(18, 60)))
        left = float(rng.uniform(-0.8, 0.3) * facade.width)
        self.add(z, lambda: buildings.paint_front(self.canvas, facade, left, z, float(rng.uniform(0.3, 1.0))))

    def trees(self, count: int) -> None:
        """Stand trees beside the road."""
        rng, canvas = self.rng, self.canvas
        leafless = rng.random() < 0.15
        for _ in range(count):
            z = self.distance(max(self.near * 1.3, 6), 90)
            spread = float(rng.uniform(0.4, 14 if self.road.verge == "grass" else 1.8))
            x = float(self.road.shift(z)) + float(rng.choice([-1, 1])) * (self.edge + spread)
            height = float(rng.uniform(4.5, 12))
            if not self.free(x, z, 0.8):
                continue
            kind = "conifer" if rng.random() < 0.15 else "bare" if leafless else "leafy"
            seed = int(rng.integers(2**31))

            def paint(x=x, z=z, h=height, k=kind, s=seed) -> None:
                plants.paint_tree(canvas, x, z, h, k, np.random.default_rng(s))

            half = 0.25 * height
            outline = np.array(
                [
                    [x + a, h, z + b]
                    for h in (0.45 * height, 0.95 * height)
                    for a, b in ((-half, -half), (half, -half), (half, half), (-half, half))
                ]
            )
            self.add(z, paint, outline)

    def bushes(self, count: int) -> None:
        """Set bushes and hedges behind the pavement."""
        for _ in range(count):
            z = self.distance(max(self.near, 5), 70)
            side = float(self.rng.choice([-1, 1]))
            height, width = float(self.rng.uniform(0.6, 2.0)), float(self.rng.uniform(1.0, 7.0))
            x = float(self.road.shift(z)) + side * (self.edge + 0.6 + width / 2 + float(self.rng.uniform(0, 5)))
            seed = int(self.rng.integers(2**31))

            def paint(x=x, z=z, w=width, h=height, s=seed) -> None:
                plants.paint_bush(self.canvas, x, z, w, h, np.random.default_rng(s))

            self.add(z, paint)

    def cars(self, parked: int, moving: int) -> None:
        """Park cars along the kerb and drive cars in the lanes."""
        rng, climate, road = self.rng, self.canvas.climate, self.road
        for index in range(parked + moving):
            drives = index >= parked
            side = float(rng.choice([-1, 1]))
            z = self.distance(max(self.near + 3.5, 7), 75)
            lane = 0.45 * road.half if drives else road.half - 1.05
            yaw = 0.0 if side > 0 else np.pi
            crossing = drives and rng.random() < 0.15
            if crossing:
                yaw = np.pi / 2 * side
            elif not drives and rng.random() < 0.35:
                yaw += np.pi
            x = float(road.shift(z)) + side * lane + float(rng.normal(0, 0.15))
            if not self.free(x, z, 2.4):
                continue
            yaw += float(rng.normal(0, 0.05)) + 2 * road.curvature * z
            lit = climate.lamps and drives
            car = vehicles.draw_vehicle(rng, x, z, yaw, drives or rng.random() < 0.2, lit)
            owner = self.claim(_VEHICLE)
            self.add(
                z,
                partial(vehicles.paint_vehicle, self.canvas, car, owner),
                vehicles.vehicle_outline(car),
            )

    def walkers(self, groups: int) -> None:
        """Put people on the pavements and some on the road."""
        rng = self.rng
        for _ in range(groups):
            z0 = self.distance(max(self.near + 1.0, 5), 60)
            if rng.random() < 0.3:
                x0 = float(self.road.shift(z0)) + float(rng.uniform(-1, 1)) * self.road.half
            else:
                x0 = float(self.road.shift(z0)) + float(rng.choice([-1, 1])) * (
                    self.road.half + float(rng.uniform(0.3, max(self.road.pavement, 1.5)))
                )
            for _ in range(int(rng.choice([1, 1, 2, 3]))):
                x, z = x0 + float(rng.normal(0, 0.5)), z0 + float(rng.normal(0, 0.5))
                if z < self.near or not self.free(x, z, 0.28):
                    continue
                person = people.draw_person(rng, x, z)
                owner = self.claim(_PERSON)
                self.add(
                    z,
                    partial(people.paint_person, self.canvas, person, owner),
                    people.person_outline(person),
                )

    def street_lamps(self) -> None:
        """Line the road with street lamps, lit in the dark."""
        rng, canvas, climate = self.rng, self.canvas, self.canvas.climate
        side, spacing, height = float(rng.choice([-1, 1])), float(rng.uniform(14, 28)), float(rng.uniform(4.0, 8.0))
        tints = ((1.0, 0.72, 0.38), (1.0, 0.92, 0.78), (0.82, 0.92, 1.0))
        colour, power = tints[int(rng.integers(3))], float(rng.uniform(12, 30)) * climate.lamps
        z = float(rng.uniform(self.near * 1.5, spacing))
        while z < 90:
            x = float(self.road.shift(z)) + side * (self.road.half + 0.5)
            self.add(z, partial(furniture.paint_lamp, canvas, x, z, height, -side * 1.2, colour, power * height / 5))
            z += spacing

    def small_things(self) -> None:
        """Add signs, posters, cones, a railing and utility wires."""
        rng, canvas = self.rng, self.canvas
        works = 5 if rng.random() < 0.15 else 0
        for kind, most in (("sign", 3), ("poster", int(rng.random() < 0.5)), ("cone", works)):
            for _ in range(int(rng.integers(0, most + 1))):
                z = self.distance(max(self.near, 5), 45)
                side = float(rng.choice([-1, 1]))
                beside = self.road.half + (0.4 if kind == "sign" else -0.3 if kind == "cone" else self.road.pavement)
                x = float(self.road.shift(z)) + side * beside
                if not self.free(x, z, 0.3):
                    continue
                seed = int(rng.integers(2**31))
                draw = {
                    "sign": partial(furniture.paint_sign, canvas, x, z, np.random.default_rng(seed)),
                    "poster": partial(furniture.paint_poster, canvas, x, z, np.random.default_rng(seed)),
                    "cone": partial(furniture.paint_cone, canvas, x, z),
                }[kind]
                self.add(z, draw)
        if rng.random() < 0.25 and self.road.curvature == 0.0:
            side, near = float(rng.choice([-1, 1])), float(rng.uniform(self.near, 15))
            heated = canvas.climate.heated(4.0, 2.0) - canvas.climate.ambient
            self.add(
                near + 5,
                lambda: furniture.paint_railing(
                    canvas, self.road.centre + side * (self.road.half + 0.35), near, near + 20, heated
                ),
            )
        if rng.random() < 0.3:
            side = float(rng.choice([-1, 1]))
            places = [float(z) for z in np.arange(rng.uniform(6, 20), 110, 28)][::-1]
            self.add(
                places[0], lambda: furniture.paint_wires(canvas, self.road.centre + side * (self.edge + 1.0), places)
            )

    def cast_shadows(self) -> None:
        """Lay the shadows of all items on the ground."""
        climate, camera = self.canvas.climate, self.canvas.camera
        if climate.sun <= 0.0:
            return
        for item in self.items:
            if item.outline is None:
                continue
            ground = item.outline * (1.0, 0.0, 1.0)
            ground[:, 0] += item.outline[:, 1] * climate.sun_shift[0]
            ground[:, 2] += item.outline[:, 1] * climate.sun_shift[1]
            ground[:, 2] = np.maximum(ground[:, 2], 1.0)
            if item.outline[:, 1].min() > 0:
                ground = ground[ground[:, 2] > 1.0]
            if len(ground) < 3:
                continue
            pixels = camera.project(ground)
            hull = _hull(pixels)
            self.canvas.shadow(hull, 0.85, 2.5 * climate.sun, float(np.clip(0.1 * camera.focal / item.z, 0.3, 4.0)))

    def paint(self) -> None:
        """Paint the shadows, then all items from far to near."""
        self.cast_shadows()
        for item in sorted(self.items, key=lambda entry: -entry.z):
            item.paint()


def _hull(points: np.ndarray) -> np.ndarray:
    """Convex hull of pixel points [n, 2]."""
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)


def _roughen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Break up flat surfaces with fine texture, drawn apart for light and heat as real materials show it."""
    x, y = canvas.grid((0, 0, canvas.camera.width, canvas.camera.height))
    x, y = np.broadcast_arrays(x, y)
    offset = rng.uniform(0, 60, 4).astype(np.float32)
    near = np.clip(2.0 - canvas.depth / 60.0, 0.2, 1.0)
    light = sample(x * 0.45 + offset[0], y * 0.45 + offset[1]) + sample(x * 0.13 + offset[1], y * 0.13 + offset[0])
    warm = sample(x * 0.35 + offset[2], y * 0.35 + offset[3]) + sample(x * 0.08 + offset[3], y * 0.08 + offset[2])
    canvas.albedo[...] *= (1.0 + 0.045 * light * near)[..., None]
    canvas.heat[...] += 0.16 * warm * near * (canvas.depth < backdrop.FAR / 2)


def build_scene(rng: np.random.Generator, height: int, width: int, condition: str) -> tuple[Canvas, dict[int, str]]:
    """Draw and paint one scene.

    Args:
        rng: Source of every choice.
        height: Rows.
        width: Columns.
        condition: One of ``CONDITIONS``.

    Returns:
        The painted canvas and the label of each owner number in it.
    """
    climate = draw_climate(rng, condition)
    canvas = Canvas(draw_camera(rng, height, width), climate)
    park = bool(rng.random() < 0.3)
    road = draw_road(rng, park)
    backdrop.paint_sky(canvas, rng)
    backdrop.paint_hills(canvas, rng)
    if rng.random() < 0.4:
        backdrop.paint_skyline(canvas, rng)
    backdrop.paint_ground(canvas, road, rng)
    builder = _Builder(canvas, road, park, rng)
    density = float(rng.choice([0.4, 1.0, 1.8], p=[0.25, 0.45, 0.3]))
    for side in (-1.0, 1.0):
        if rng.random() < (0.15 if park else 0.65):
            builder.row_of_buildings(side)
    if rng.random() < 0.3:
        builder.closing_building()
    builder.trees(int(rng.integers(3, 9) * (2.2 if park else 1.3)))
    builder.bushes(int(rng.integers(0, 6) * (1.5 if park else 0.6)))
    if rng.random() < 0.75:
        builder.street_lamps()
    builder.cars(0 if park else int(rng.poisson(2.5 * density)), int(rng.poisson((0.4 if park else 2.0) * density)))
    builder.walkers(int(rng.poisson(2.2 * density)))
    builder.small_things()
    builder.paint()
    _roughen(canvas, rng)
    return canvas, builder.labels
