"""Sky, skyline and ground: everything that lies behind the objects of a scene."""

from dataclasses import dataclass

import cv2
import numpy as np

from fusion_env.data.procedural.canvas import Canvas, Climate, rgb
from fusion_env.data.procedural.noise import cover, fbm

__all__ = ["FAR", "Road", "paint_ground", "paint_hills", "paint_sky", "paint_skyline"]

FAR = 900.0
_MAX_GROUND = 350.0


@dataclass(frozen=True)
class Road:
    """The road and what lies beside it, in metres.

    Attributes:
        centre: X of the road's middle at the camera.
        half: Half the width of the carriageway.
        pavement: Width of the pavements.
        curvature: Sideways shift of the road at distance z is ``curvature * z**2``.
        verge: What lies beyond the pavement: ``"grass"`` or ``"paving"``.
        surface: What the carriageway is made of: ``"asphalt"`` or ``"setts"``.
        lanes: X (relative to the centre) of the lane lines and whether each is dashed.
        yellow: Whether the middle line is yellow.
        crossing: Distance of a zebra crossing, 0 for none.
        word: Coverage of a word painted on the road (see ``lettering``), None for none.
    """

    centre: float
    half: float
    pavement: float
    curvature: float
    verge: str
    surface: str
    lanes: tuple[tuple[float, bool], ...]
    yellow: bool
    crossing: float
    word: np.ndarray | None

    def shift(self, z: np.ndarray | float) -> np.ndarray | float:
        """X of the road's middle at distance ``z``."""
        return self.centre + self.curvature * np.minimum(z, 120.0) ** 2


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the whole canvas with sky: a gradient and clouds, cold in the infrared and warmest at the horizon."""
    camera, climate = canvas.camera, canvas.climate
    window = (0, 0, camera.width, camera.height)
    x, y = canvas.grid(window)
    rise = np.clip((camera.horizon - y) / camera.focal, 0.0, 1.5)
    u, v = np.broadcast_arrays((x - camera.centre) / camera.focal / (rise + 0.25), 1.0 / (rise + 0.25))
    offset = rng.uniform(0, 60, 2).astype(np.float32)
    clouds = fbm(u * 1.5 + offset[0], v + offset[1], 1.0, 5)
    amount = np.clip(0.5 * (clouds + rng.uniform(-1.5, 1.5)), 0.0, 1.0) * np.clip(rise * 4.0, 0.0, 1.0)
    if climate.sky > 0.3:
        zenith = rgb((0.36, 0.55, 0.90)) * rng.uniform(0.75, 1.1)
        horizon, cloud = rgb((0.98, 1.04, 1.10)), rgb((1.2, 1.2, 1.21)) * rng.uniform(0.7, 1.0)
    else:
        town = rng.uniform(0.3, 1.2) * rgb((0.030, 0.024, 0.018))
        zenith, horizon, cloud = rgb((0.006, 0.008, 0.014)), town, town * 1.2
    blend = np.exp(-rise * rng.uniform(2.0, 5.0))[..., None]
    colour = (zenith * (1 - blend) + horizon * blend) * (1 - amount[..., None]) + cloud * amount[..., None]
    level = climate.sky if climate.sky > 0.3 else 1.0
    heat = climate.ambient - 9.0 - rng.uniform(10, 22) * (1 - np.exp(-3.0 * rise)) + 6.0 * amount
    canvas.paint(np.ones((camera.height, camera.width), np.float32), window, 0.0, heat, FAR, 0.0, colour * level)


def _silhouette(canvas: Canvas, profile: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]] | None:
    """Mask between a row profile [width] and the horizon."""
    camera = canvas.camera
    window = canvas.window(0, float(profile.min()) - 1, camera.width, camera.horizon + 2)
    if window is None:
        return None
    _, y = canvas.grid(window)
    return np.clip(y - profile[None, window[0] : window[2]] + 0.5, 0.0, 1.0).astype(np.float32), window


def paint_hills(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a ridge and a band of distant trees along the horizon."""
    camera, climate = canvas.camera, canvas.climate
    x = np.arange(camera.width, dtype=np.float32)[None] / camera.focal
    for distance, height, cell, albedo in (
        (700.0, rng.uniform(0.0, 0.10), 0.7, rgb((0.16, 0.20, 0.22))),
        (160.0, rng.uniform(0.015, 0.06), 0.09, rgb((0.055, 0.085, 0.04))),
    ):
        ridge = fbm(x + rng.uniform(0, 50), np.zeros_like(x), cell, 5, 1.0 / camera.focal)[0]
        profile = camera.horizon - camera.focal * np.clip(height * (1.0 + 0.35 * ridge), 0.0, None)
        shape = _silhouette(canvas, profile)
        if shape is None:
            continue
        mask, window = shape
        gx, gy = canvas.grid(window)
        u, v = np.broadcast_arrays(gx / camera.focal * distance, gy / camera.focal * distance)
        texture = fbm(u, v, 6.0, 3, distance / camera.focal)
        heat = climate.heated(3.0, 0.0) - 2.0 + 1.2 * texture
        shade = np.clip(0.6 + 0.35 * texture, 0.1, 1.0)
        canvas.paint(mask, window, albedo * (1 + 0.25 * np.clip(texture, -2, 2)[..., None]), heat, distance, shade)


def paint_skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint distant tower blocks with tiny windows."""
    camera, climate = canvas.camera, canvas.climate
    for _ in range(int(rng.integers(1, 8))):
        distance = float(rng.uniform(170, 450))
        width, height = rng.uniform(14, 40), rng.uniform(20, 110)
        left = float(rng.uniform(0, camera.width)) - camera.focal * width / distance / 2
        top = camera.horizon - camera.focal * height / distance
        window = canvas.window(left, top, left + camera.focal * width / distance, camera.horizon + 2)
        if window is None:
            continue
        x, y = canvas.grid(window)
        u, v = (x - left) * distance / camera.focal, (y - top) * distance / camera.focal
        pixel = distance / camera.focal
        panes = cover(np.mod(u, 3.4), 0.8, 2.6, pixel) * cover(np.mod(v, 3.1), 0.8, 2.3, pixel)
        lit = panes * (rng.random(panes.shape) < 0.12) if climate.lamps else np.zeros_like(panes)
        tone = rng.uniform(0.2, 0.5) * rgb((1.0, 0.95, 0.9))
        albedo = tone * (1 - 0.6 * panes[..., None])
        heat = climate.heated(4.0, 2.0) - 3.0 * panes - 1.0
        canvas.paint(
            np.ones(panes.shape, np.float32),
            window,
            albedo,
            heat,
            distance,
            float(rng.uniform(0.3, 1.0)),
            lit[..., None] * rgb((0.9, 0.7, 0.4)) * 0.5,
        )


def _lines(
    canvas: Canvas, road: Road, x: np.ndarray, z: np.ndarray, pixel: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Coverage of paint on the carriageway: lane lines, a zebra crossing, a word."""
    step = z * pixel / canvas.camera.eye
    phase = float(rng.uniform(0, 9))
    paint = np.zeros_like(x)
    for at, dashed in road.lanes:
        line = cover(x, at - 0.07, at + 0.07, pixel)
        if dashed:
            line = line * cover(np.mod(z + phase, 9.0), 0.0, 3.5, step)
        paint = np.maximum(paint, line)
    if road.crossing:
        zebra = cover(z, road.crossing, road.crossing + 3.2, step) * cover(np.mod(x, 1.0), 0.25, 0.75, pixel)
        paint = np.maximum(paint * (1 - cover(z, road.crossing - 1, road.crossing + 4.2, step)), zebra)
    if road.word is not None:
        paint = np.maximum(paint, _word(road.word, x + road.half * 0.5, z - 6.0 - phase))
    return paint


def _word(stencil: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Coverage of stretched letters painted on the road, 2.4 m wide and 3.5 m long."""
    columns = (x / 2.4 + 0.5) * stencil.shape[1]
    rows = (1.0 - z / 3.5) * stencil.shape[0]
    return cv2.remap(stencil, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)


@dataclass
class _Plane:
    """The ground as the camera sees it, one value per pixel of ``window``.

    Attributes:
        window: Pixel rectangle below the horizon.
        x: Metres to the right of the road's middle.
        z: Metres away from the camera.
        pixel: Metres that a pixel covers sideways.
        long_pixel: Metres that a pixel covers lengthwise.
        coarse: Noise of several metres.
        fine: Noise of centimetres.
        shift: Offset of all noise of this scene.
        albedo: Reflectance painted so far.
        heat: Temperature painted so far.
    """

    window: tuple[int, int, int, int]
    x: np.ndarray
    z: np.ndarray
    pixel: np.ndarray
    long_pixel: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    shift: np.ndarray
    albedo: np.ndarray
    heat: np.ndarray

    def lay(self, mask: np.ndarray, colour: np.ndarray, temperature: np.ndarray | float) -> None:
        """Cover what ``mask`` selects with another material."""
        self.albedo += mask[..., None] * (colour - self.albedo)
        self.heat += mask * (temperature - self.heat)


def _cast_plane(canvas: Canvas, road: Road, rng: np.random.Generator) -> _Plane | None:
    """Find the point of the ground that every pixel below the horizon shows; None if there is no such pixel."""
    camera = canvas.camera
    window = canvas.window(0, camera.horizon + 0.5, camera.width, camera.height)
    if window is None:
        return None
    gx, gy = canvas.grid(window)
    z = np.minimum(camera.focal * camera.eye / np.maximum(gy - camera.horizon, 0.05), _MAX_GROUND)
    pixel, z = np.broadcast_arrays(z / camera.focal, z + 0 * gx)
    x = ((gx - camera.centre) * pixel - road.shift(z)).astype(np.float32)
    shift = rng.uniform(0, 60, 2).astype(np.float32)
    long_pixel = pixel * z / camera.eye
    coarse = fbm(x + shift[0], z + shift[1], 6.0, 3, long_pixel)
    fine = fbm(x + shift[1], z * 0.7 + shift[0], 0.25, 3, pixel)
    albedo, heat = np.empty((*x.shape, 3), np.float32), np.empty_like(x)
    return _Plane(window, x, z, pixel, long_pixel, coarse, fine, shift, albedo, heat)


def _joints(plane: _Plane, slab: float) -> np.ndarray:
    """Coverage of the joints between square slabs, fading with distance."""
    x, z, long_pixel = plane.x, plane.z, plane.long_pixel
    joints = np.maximum(cover(np.mod(x, slab), 0, 0.03, plane.pixel), cover(np.mod(z, slab), 0, 0.03, long_pixel))
    return joints * np.clip(1.5 - long_pixel / slab * 3, 0.0, 1.0)


def _setts(plane: _Plane) -> np.ndarray:
    """Coverage of the gaps between the stones of a sett road, fading with distance."""
    rows = np.floor(plane.z / 0.32)
    across = cover(np.mod(plane.x + 0.2 * np.mod(rows, 2), 0.4), 0, 0.05, plane.pixel)
    gaps = np.maximum(across, cover(np.mod(plane.z, 0.32), 0, 0.05, plane.long_pixel))
    return gaps * np.clip(1.5 - plane.long_pixel, 0.0, 1.0)


def _lay_verge(
    plane: _Plane, climate: Climate, grass: np.ndarray | None, stone: np.ndarray, joints: np.ndarray
) -> None:
    """Fill the plane with grass of a given colour or, without one, with paving."""
    coarse = plane.coarse
    if grass is None:
        plane.albedo[...] = stone * 0.8 * (1 + 0.1 * coarse - 0.3 * joints)[..., None]
        plane.heat[...] = climate.heated(7.0, 3.0) + 0.5 * coarse
        return
    area = np.sqrt(plane.pixel * plane.long_pixel)
    blades = fbm(plane.x + plane.shift[0], plane.z + plane.shift[1], 0.6, 4, area, 0.8)
    plane.albedo[...] = grass * (1 + 0.30 * blades + 0.18 * coarse)[..., None]
    plane.heat[...] = climate.heated(3.0, -2.5) + 1.0 * blades + 0.7 * coarse


def _lay_road(
    plane: _Plane, climate: Climate, road: Road, colour: np.ndarray, carriageway: np.ndarray, seamed: int
) -> None:
    """Lay the carriageway with its wear and, if ``seamed``, a line of fresh tar."""
    coarse, fine = plane.coarse, plane.fine
    streak = fbm(plane.x + plane.shift[0], plane.z * 0.04, 0.9, 2, plane.pixel)
    setts = _setts(plane) if road.surface == "setts" else np.zeros_like(plane.x)
    wear = 1 + 0.10 * fine + 0.10 * coarse + 0.08 * streak - 0.45 * setts
    warmth = climate.heated(8.0, 4.5) + 0.5 * coarse + 0.6 * streak + 0.3 * fine - 1.2 * setts
    plane.lay(carriageway, colour * wear[..., None], warmth)
    seam = cover(plane.x, road.half * 0.03, road.half * 0.03 + 0.06, plane.pixel) * seamed
    plane.lay(seam * carriageway, rgb((0.03, 0.03, 0.03)), climate.heated(9.5, 5.5))


def paint_ground(canvas: Canvas, road: Road, rng: np.random.Generator) -> None:
    """Ray-cast the ground plane: carriageway with marks, kerbs, pavements and verges.

    Marks are almost invisible in the infrared; kerbs, wear and the edge of the asphalt are seen by both sensors.
    """
    camera, climate = canvas.camera, canvas.climate
    plane = _cast_plane(canvas, road, rng)
    if plane is None:
        return
    x, pixel, coarse, fine = plane.x, plane.pixel, plane.coarse, plane.fine
    carriageway = cover(x, -road.half, road.half, pixel)
    kerb = np.maximum(cover(x, -road.half - 0.28, -road.half, pixel), cover(x, road.half, road.half + 0.28, pixel))
    paving = cover(x, -road.half - road.pavement, road.half + road.pavement, pixel) * (1 - carriageway)
    joints = _joints(plane, rng.uniform(0.5, 1.2))
    tar = rng.uniform(0.08, 0.2)
    surface = {"asphalt": rgb((tar, tar, tar * 1.03)), "setts": rgb((0.15, 0.14, 0.13))}[road.surface]
    stone = rng.uniform(0.2, 0.38) * rgb((1.0, 0.96, 0.9))
    green = rgb((0.07, 0.12, 0.035)) * rng.uniform(0.7, 1.3)

    _lay_verge(plane, climate, green if road.verge == "grass" else None, stone, joints)
    slabs = stone * (1 + 0.07 * fine + 0.08 * coarse - 0.35 * joints)[..., None]
    plane.lay(paving, slabs, climate.heated(6.5, 3.5) + 0.5 * coarse + 0.3 * fine + 0.8 * joints)
    _lay_road(plane, climate, road, surface, carriageway, int(rng.integers(0, 2)))
    plane.lay(kerb, rgb((0.42, 0.41, 0.39)) * (1 + 0.05 * fine)[..., None], climate.heated(5.0, 6.0) + 0.4 * fine)
    paint = rgb((0.62, 0.62, 0.60)) if not road.yellow else rgb((0.60, 0.45, 0.10))
    marks = _lines(canvas, road, x, plane.z, pixel, rng) * carriageway * np.clip(0.85 + 0.25 * coarse, 0.3, 1.0)
    plane.lay(marks, paint, plane.heat - 0.9)
    plane.albedo *= 1.0 - 0.45 * climate.wet * carriageway[..., None]
    _, gy = canvas.grid(plane.window)
    below = np.ones(x.shape, np.float32) * np.clip(gy - camera.horizon, 0, 1)
    canvas.paint(below, plane.window, np.clip(plane.albedo, 0.01, 0.9), plane.heat, plane.z)
