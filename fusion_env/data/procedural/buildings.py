"""Facades: a shader over wall coordinates, used for walls along the road and for walls that face the camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from fusion_env.data.procedural.canvas import Canvas, Climate, rgb
from fusion_env.data.procedural.lettering import lettering
from fusion_env.data.procedural.noise import cover, fbm

__all__ = ["Facade", "draw_facade", "paint_front", "paint_roof", "paint_side"]

_SIGN_COLOURS = ((0.65, 0.06, 0.05), (0.05, 0.15, 0.55), (0.7, 0.5, 0.05), (0.05, 0.4, 0.15), (0.75, 0.75, 0.72))


@dataclass(frozen=True)
class Facade:
    """One building front.

    Attributes:
        width: Length along the wall in metres.
        height: Height in metres.
        floor: Height of a storey in metres.
        bay: Distance between windows in metres.
        pane: Width and height of a window as shares of bay and storey.
        wall: Linear RGB reflectance of the wall.
        brick: Whether the wall shows courses of bricks.
        shop: Whether the ground floor is a shop with a sign.
        sign: Linear RGB of the sign.
        warm: How much warmer than usual the wall is, in degrees.
        table: Random numbers in 0..1 looked up by window, deciding light, blinds and warmth.
        offset: Shift of the wall's texture in metres.
        ridge: How far a pitched roof rises above the wall in metres, 0 for a flat roof.
        lettering: Coverage of the writing on the sign.
    """

    width: float
    height: float
    floor: float
    bay: float
    pane: tuple[float, float]
    wall: tuple[float, float, float]
    brick: bool
    shop: bool
    sign: tuple[float, float, float]
    warm: float
    table: np.ndarray
    offset: float
    ridge: float
    lettering: np.ndarray


def draw_facade(rng: np.random.Generator, width: float) -> Facade:
    """Draw the look of a building front of a given width."""
    floor = float(rng.uniform(2.8, 3.6))
    house = bool(rng.random() < 0.35)
    floors = int(rng.integers(1, 4)) if house else int(rng.integers(2, 7))
    tone = rng.uniform(0.12, 0.62)
    tints = ((1.0, 0.98, 0.94), (1.0, 0.90, 0.74), (1.0, 0.62, 0.46), (0.86, 0.93, 1.0), (0.95, 0.80, 0.62))
    red, green, blue = tints[int(rng.integers(len(tints)))]
    return Facade(
        width=width,
        height=floor * floors + float(rng.uniform(0.3, 1.0)),
        floor=floor,
        bay=float(rng.uniform(2.0, 4.2)),
        pane=(float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.4, 0.62))),
        wall=(tone * red, tone * green, tone * blue),
        brick=bool(rng.random() < 0.4),
        shop=bool(rng.random() < (0.15 if house else 0.5)),
        sign=_SIGN_COLOURS[int(rng.integers(len(_SIGN_COLOURS)))],
        warm=float(rng.uniform(-1.0, 2.5)),
        table=rng.random(251).astype(np.float32),
        offset=float(rng.uniform(0, 60)),
        ridge=float(rng.uniform(1.5, 3.5)) if house else 0.0,
        lettering=lettering(rng, int(rng.integers(4, 9))),
    )


def _sign(facade: Facade, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Coverage of letters on the sign above the shop."""
    stencil = facade.lettering
    width = min(facade.width * 0.8, 6.0)
    columns = ((u - facade.width / 2) / width + 0.5) * stencil.shape[1]
    rows = (1.0 - (v - facade.floor * 0.86) / (facade.floor * 0.22)) * stencil.shape[0]
    return cv2.remap(stencil, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)


@dataclass(frozen=True)
class _Windows:
    """Coverage of the parts of all windows of a facade, and the random number of the window that a pixel belongs to."""

    frame: np.ndarray
    glass: np.ndarray
    ledge: np.ndarray
    band: np.ndarray
    reveal: np.ndarray
    chance: np.ndarray
    other_chance: np.ndarray


def _wall(
    facade: Facade, climate: Climate, u: np.ndarray, v: np.ndarray, pixel: np.ndarray, rough: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Albedo and temperature of the bare wall, plastered or of bricks."""
    grain = fbm(u, v + facade.offset, 0.3, 2, pixel)
    wall = 1 + 0.07 * rough + 0.05 * grain
    heat = climate.heated(5.0, 3.0) + facade.warm + 0.35 * rough + 0.25 * grain
    if facade.brick:
        upright = cover(np.mod(u + 0.17 * np.mod(np.floor(v / 0.16), 2), 0.34), 0, 0.03, pixel)
        joints = np.maximum(cover(np.mod(v, 0.16), 0, 0.03, pixel), upright)
        wall = wall - 0.25 * joints
        heat = heat - 0.5 * joints
    return rgb(facade.wall) * wall[..., None], heat


def _windows(facade: Facade, u: np.ndarray, v: np.ndarray, pixel: np.ndarray) -> _Windows:
    """Lay out the windows: one for each bay and storey, with bars, ledges and a band between storeys."""
    bay, floor = facade.width / max(int(facade.width / facade.bay), 1), facade.floor
    du, dv = (np.mod(u, bay) / bay - 0.5) * bay, np.mod(v, floor) - floor * 0.55
    half_w, half_h = facade.pane[0] * bay / 2, facade.pane[1] * floor / 2
    upper = cover(v, floor if facade.shop else 0.0, facade.height - 0.35 * floor, pixel)
    frame = cover(du, -half_w - 0.1, half_w + 0.1, pixel) * cover(dv, -half_h - 0.1, half_h + 0.1, pixel) * upper
    glass = cover(du, -half_w, half_w, pixel) * cover(dv, -half_h, half_h, pixel) * upper
    bars = np.maximum(cover(du, -0.03, 0.03, pixel), cover(dv, half_h * 0.3, half_h * 0.3 + 0.05, pixel))
    glass = glass * (1 - bars)
    if facade.shop:
        shop = cover(v, 0.5, floor * 0.78, pixel) * cover(np.mod(u, bay * 1.5), 0.2, bay * 1.5 - 0.2, pixel)
        glass = np.maximum(glass, shop)
    index = np.mod(np.floor(u / bay) * 31 + np.floor(v / floor) * 57, facade.table.size).astype(np.int32)
    chance = facade.table[index]
    return _Windows(
        frame=frame,
        glass=glass,
        ledge=cover(dv, -half_h - 0.25, -half_h - 0.1, pixel) * cover(du, -half_w - 0.15, half_w + 0.15, pixel) * upper,
        band=cover(np.mod(v, floor), 0.0, 0.18, pixel) * upper,
        reveal=np.clip(0.35 + 0.5 * chance, 0, 1) * np.clip(1 - dv / (2.2 * half_h), 0.4, 1.3),
        chance=chance,
        other_chance=facade.table[(index + 9) % facade.table.size],
    )


def _lit_windows(facade: Facade, climate: Climate, windows: _Windows, v: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Light that comes out of the windows [h, w, 3]: of some flats, and of a shop as a whole."""
    lit = np.zeros_like(windows.glass)
    if climate.lamps:
        open_late = facade.shop and bool(facade.table[0] > 0.35)
        lit = windows.glass * ((windows.chance > 0.72) | ((v < facade.floor) & open_late))
        lit = lit * (0.55 + 0.35 * np.clip(rough + 1, 0, 1.6)) * (0.4 + 1.2 * windows.other_chance)
    return lit[..., None] * rgb((1.0, 0.78, 0.45)) * 0.5


def shade_facade(
    canvas: Canvas, facade: Facade, u: np.ndarray, v: np.ndarray, pixel: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluate a facade at wall coordinates.

    Args:
        canvas: Gives the climate.
        facade: The building.
        u: Metres along the wall [h, w].
        v: Metres above the ground [h, w].
        pixel: Metres of wall that a pixel covers [h, w].

    Returns:
        Albedo [h, w, 3], temperature [h, w] and glow [h, w, 3].
    """
    climate = canvas.climate
    rough = fbm(u + facade.offset, v, 3.0, 4, pixel)
    albedo, heat = _wall(facade, climate, u, v, pixel, rough)
    windows = _windows(facade, u, v, pixel)
    frame, glass = windows.frame - windows.glass, windows.glass
    albedo += frame[..., None] * (rgb((0.55, 0.54, 0.52)) - albedo)
    albedo += glass[..., None] * (rgb((0.20, 0.25, 0.30)) * 0.7 * windows.reveal[..., None] - albedo)
    albedo += (np.maximum(windows.ledge, 0.6 * windows.band) * 0.35)[..., None]
    # Glass mirrors the sky, which is colder by day than the walls by more than at night; some rooms are heated.
    cold, rare, heating = (-4.0, 0.85, 3.0) if climate.sky > 0.3 else (-2.0, 0.7, 4.0)
    inside = np.where(windows.chance > rare, heating, 0.0)
    heat = heat + glass * (cold + inside - 0.5 * rough) + frame * 1.2 + 1.0 * windows.ledge + 0.8 * windows.band
    glow = _lit_windows(facade, climate, windows, v, rough)
    if facade.shop:
        board = cover(v, facade.floor * 0.82, facade.floor * 1.12, pixel) * cover(u, 0.3, facade.width - 0.3, pixel)
        letters = _sign(facade, u, v) * board
        face = rgb(facade.sign) * (1 - letters[..., None]) + 0.85 * letters[..., None]
        albedo += board[..., None] * (face - albedo)
        heat = heat + board * (climate.heated(8.0, 2.0) + (3.0 if climate.lamps else 0.0) - heat)
        if climate.lamps and facade.table[1] > 0.4:
            glow = glow + (board[..., None] * rgb(facade.sign) * 0.5 + letters[..., None] * rgb((0.9, 0.9, 0.85)))
    edge = cover(v, facade.height - 0.5, facade.height, pixel)
    albedo += (0.12 * edge)[..., None]
    return np.clip(albedo, 0.01, 0.95), heat + 1.0 * edge, glow


def paint_front(canvas: Canvas, facade: Facade, left: float, z: float, shade: float, above: float = 0.0) -> None:
    """Paint a facade that faces the camera, left edge at X ``left``, where it is higher than ``above`` metres."""
    camera = canvas.camera
    scale = camera.focal / z
    x0, y0 = camera.centre + left * scale, camera.horizon + (camera.eye - facade.height) * scale
    window = canvas.window(x0, y0, x0 + facade.width * scale, camera.horizon + (camera.eye - above) * scale)
    if window is None:
        return
    gx, gy = canvas.grid(window)
    u, v = np.broadcast_arrays((gx - x0) / scale, camera.eye - (gy - camera.horizon) / scale)
    pixel = np.full(u.shape, 1 / scale, np.float32)
    mask = cover(u, 0.0, facade.width, pixel) * cover(v, above, facade.height, pixel)
    albedo, heat, glow = shade_facade(canvas, facade, u.astype(np.float32), v.astype(np.float32), pixel)
    canvas.paint(mask, window, albedo, heat, z, shade, glow)


def paint_side(canvas: Canvas, facade: Facade, x: float, near: float, shade: float) -> None:
    """Paint a facade along the road at X ``x``, from Z ``near`` away from the camera."""
    camera = canvas.camera
    far = near + facade.width
    at = [camera.centre + camera.focal * x / z for z in (near, far)]
    top = camera.horizon + camera.focal * (camera.eye - facade.height) / near
    window = canvas.window(min(at), top, max(at), camera.horizon + camera.focal * camera.eye / near)
    if window is None:
        return
    gx, gy = canvas.grid(window)
    offset = gx - camera.centre
    z = camera.focal * x / np.where(np.abs(offset) < 0.5, np.sign(x) * 0.5, offset)
    z = np.where(z > 0, np.clip(z, near * 0.8, far * 1.2), far * 1.2)
    u, v = np.broadcast_arrays(z - near, camera.eye - (gy - camera.horizon) * z / camera.focal)
    depth = np.broadcast_to(z, u.shape).astype(np.float32)
    along = depth**2 / (camera.focal * abs(x))
    mask = cover(u, 0.0, facade.width, along) * cover(v, 0.0, facade.height, depth / camera.focal)
    pixel = np.sqrt(along * depth / camera.focal).astype(np.float32)
    albedo, heat, glow = shade_facade(canvas, facade, u.astype(np.float32), v.astype(np.float32), pixel)
    canvas.paint(mask.astype(np.float32), window, albedo, heat, depth, shade, glow)


def paint_roof(canvas: Canvas, facade: Facade, x: float, near: float, depth: float, shade: float) -> None:
    """Paint the pitched roof of a house whose wall along the road is at X ``x``; ``depth``: signed extent in X."""
    climate, height = canvas.climate, facade.height
    far, top = near + facade.width, height + facade.ridge
    tile = rgb((0.20, 0.085, 0.055)) if facade.table[2] < 0.5 else rgb((0.09, 0.09, 0.10))
    heat = climate.heated(9.0, 0.0) - 1.5
    eaves = -0.4 * float(np.sign(depth))
    slope = np.array(
        [
            [x + eaves, height - 0.2, near - 0.3],
            [x + eaves, height - 0.2, far],
            [x + depth / 2, top, far],
            [x + depth / 2, top, near - 0.3],
        ]
    )
    gable = np.array([[x, height, near], [x + depth / 2, top, near], [x + depth, height, near]])
    canvas.polygon(canvas.camera.project(gable), rgb(facade.wall), climate.heated(5.0, 3.0) + facade.warm, near, shade)
    canvas.polygon(canvas.camera.project(slope), tile, heat, near, min(shade + 0.25, 1.0), falloff=0.15)
