"""The two cameras: both read the same canvas, one its light and one its heat."""

from dataclasses import dataclass

import cv2
import numpy as np

from fusion_env.data.procedural.canvas import Canvas, rgb
from fusion_env.data.procedural.noise import fbm

__all__ = ["InfraredLook", "VisibleLook", "draw_infrared_look", "draw_visible_look", "see_infrared", "see_visible"]

_KNEE, _TOE = 0.7, 0.15
_MIN_RANGE = 13.0
_LUMA = rgb((0.2126, 0.7152, 0.0722))


@dataclass(frozen=True)
class VisibleLook:
    """Settings of the visible camera.

    Attributes:
        brightness: Mean of the picture that the exposure aims at, linear 0..1.
        cast: White balance, a factor for each of R, G, B.
        noise: Standard deviation of the noise of a mid-grey pixel, in levels of 0..1.
        saturation: 1 keeps colours, 0 is grey.
        softness: Standard deviation of the lens blur in pixels.
        haze: Extinction per metre without fog.
        headlights: Power of the lights of the car that carries the camera.
    """

    brightness: float
    cast: tuple[float, float, float]
    noise: float
    saturation: float
    softness: float
    haze: float
    headlights: float


@dataclass(frozen=True)
class InfraredLook:
    """Settings of the infrared camera.

    Attributes:
        low: Percentile of temperature, sky left out, near which black lies.
        high: Percentile that becomes white.
        headroom: How far below it black lies, as a share of the range; it shows structure in the cold sky.
        gamma: Exponent of the tone curve; above 1 darkens all but the hottest.
        equalise: Share of histogram equalisation.
        detail: Amplification of local contrast.
        softness: Standard deviation of the lens blur in pixels.
        noise: Standard deviation of the temporal noise in levels of 0..1.
        pattern: Standard deviation of fixed column and row patterns in levels of 0..1.
    """

    low: float
    high: float
    headroom: float
    gamma: float
    equalise: float
    detail: float
    softness: float
    noise: float
    pattern: float


def draw_visible_look(rng: np.random.Generator, condition: str, dark: bool) -> VisibleLook:
    """Draw a visible camera that fits the condition."""
    red, green, blue = 1.0 + rng.normal(0.0, 0.02, 3)
    if dark:
        brightness, noise = float(rng.uniform(0.012, 0.08)), float(rng.uniform(0.002, 0.012))
        if condition == "glare":
            brightness *= 1.6
    else:
        brightness, noise = float(rng.uniform(0.20, 0.40)), float(rng.uniform(0.001, 0.005))
    return VisibleLook(
        brightness=brightness,
        cast=(float(red), float(green), float(blue)),
        noise=noise,
        saturation=float(rng.uniform(0.7, 1.15)),
        softness=float(rng.uniform(0.0, 0.5)),
        haze=float(rng.uniform(0.0003, 0.002)),
        headlights=float(rng.uniform(8, 40)) if dark and rng.random() < 0.6 else 0.0,
    )


def draw_infrared_look(rng: np.random.Generator) -> InfraredLook:
    """Draw an infrared camera: detail-enhanced and bright, smooth, or dark with bright people."""
    kind = rng.random()
    if kind < 0.45:
        tone = {
            "low": 2.0,
            "high": 98.0,
            "headroom": rng.uniform(0.0, 0.25),
            "gamma": 1.0,
            "equalise": rng.uniform(0.1, 0.5),
            "detail": rng.uniform(0.4, 1.2),
        }
    elif kind < 0.8:
        tone = {
            "low": 1.0,
            "high": 99.0,
            "headroom": rng.uniform(0.05, 0.5),
            "gamma": rng.uniform(1.1, 1.7),
            "equalise": rng.uniform(0.0, 0.2),
            "detail": rng.uniform(0.0, 0.3),
        }
    else:
        tone = {
            "low": 1.0,
            "high": 99.6,
            "headroom": rng.uniform(0.0, 0.3),
            "gamma": rng.uniform(1.6, 2.6),
            "equalise": 0.0,
            "detail": rng.uniform(0.1, 0.4),
        }
    return InfraredLook(
        **{name: float(value) for name, value in tone.items()},
        softness=float(rng.uniform(0.35, 0.8)),
        noise=float(rng.uniform(0.002, 0.010)),
        pattern=float(rng.uniform(0.0, 0.005)),
    )


def _lamp_light(canvas: Canvas, look: VisibleLook) -> np.ndarray:
    """Light that lamps and the own headlights throw on every surface [H, W, 3], placed by the depth layer."""
    camera = canvas.camera
    gx, gy = canvas.grid((0, 0, camera.width, camera.height))
    depth = canvas.depth
    x, y = (gx - camera.centre) * depth / camera.focal, camera.eye - (gy - camera.horizon) * depth / camera.focal
    total = np.zeros((*depth.shape, 3), np.float32)
    for light in sorted(canvas.lights, key=lambda lamp: -lamp.power / (4.0 + lamp.z))[:10]:
        distance = (x - light.x) ** 2 + (y - light.y) ** 2 + (depth - light.z) ** 2
        total += (light.power / (distance + 2.0))[..., None] * rgb(light.colour)
    if look.headlights:
        spread = np.exp(-((x / (0.35 * depth + 0.5)) ** 2) - np.clip(y - 0.6, 0, None) ** 2 / (0.3 + 0.03 * depth) ** 2)
        total += (look.headlights * spread / (depth**2 + 20.0))[..., None] * rgb((1.0, 0.95, 0.85))
    return total


def _reflections(canvas: Canvas, radiance: np.ndarray) -> None:
    """Add the long streaks that lights leave on a wet road, in place."""
    camera, climate = canvas.camera, canvas.climate
    gx, gy = canvas.grid((0, 0, camera.width, camera.height))
    height = camera.eye - (gy - camera.horizon) * canvas.depth / camera.focal
    road = np.clip(1.0 - np.abs(height) * 8.0, 0.0, 1.0) * (gy > camera.horizon)
    for light in sorted(canvas.lights, key=lambda lamp: -lamp.power / (4.0 + lamp.z))[:10]:
        column = camera.centre + camera.focal * light.x / light.z
        row = camera.horizon + camera.focal * (camera.eye + light.y) / light.z
        wide, tall = 1.0 + 0.22 * camera.focal / light.z, 0.14 * camera.height + 0.8 * camera.focal / light.z
        streak = np.exp(-(((gx - column) / wide) ** 2) - ((gy - row) / tall) ** 2) * road
        strength = 0.5 * climate.wet * min(light.power / 6.0, 1.5) * (1 - 0.6 * np.exp(-light.z / 15))
        radiance += (strength * streak)[..., None] * rgb(light.colour)


def _bloom(radiance: np.ndarray, strength: float, star: bool) -> np.ndarray:
    """Spread light from what is brighter than white: a narrow and a wide halo, and rays."""
    height, width = radiance.shape[:2]
    size = (max(width // 4, 8), max(height // 4, 8))
    excess: np.ndarray = cv2.resize(np.clip(radiance - 0.9, 0.0, 12.0), size, interpolation=cv2.INTER_AREA)
    spread = np.zeros_like(excess)
    for sigma, share in ((0.012, 0.9), (0.04, 0.8), (0.13, 0.9)):
        spread += share * cv2.GaussianBlur(excess, (0, 0), max(sigma * size[0], 0.5))
    if star:
        reach = max(size[0] // 3, 5) | 1
        line = np.exp(-np.abs(np.linspace(-4, 4, reach))).astype(np.float32)
        line /= line.sum()
        spread += 1.2 * cv2.sepFilter2D(excess, -1, line, np.ones(1, np.float32))
        spread += 1.2 * cv2.sepFilter2D(excess, -1, np.ones(1, np.float32), line)
    return strength * cv2.resize(spread, (width, height), interpolation=cv2.INTER_LINEAR)


def _sun(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Light of a low sun in the picture [H, W, 3]: disc (hidden by what stands before it), aureole and veil."""
    camera = canvas.camera
    gx, gy = canvas.grid((0, 0, camera.width, camera.height))
    column, row = rng.uniform(0.15, 0.85) * camera.width, camera.horizon - rng.uniform(0.08, 0.4) * camera.height
    distance = np.sqrt((gx - column) ** 2 + (gy - row) ** 2) / camera.width
    sky = canvas.depth > 400.0
    disc = 40.0 * np.exp(-((distance / 0.03) ** 2)) * sky
    veil = 0.9 * np.exp(-distance / 0.06) + 0.45 * np.exp(-distance / 0.3)
    return (disc + veil)[..., None] * rgb((1.0, 0.93, 0.78))


def see_visible(canvas: Canvas, look: VisibleLook, rng: np.random.Generator) -> np.ndarray:
    """Render what the visible camera sees: sRGB levels [H, W, 3] in 0..1."""
    climate = canvas.climate
    shade = canvas.shade[..., None]
    sky_light = (
        climate.sky * rgb((0.52, 0.58, 0.68)) * (1.6 - 0.6 * climate.sun) if climate.sky > 0.3 else 0.004 + climate.sky
    )
    light = sky_light * (0.45 + 0.55 * shade) + climate.sun * shade * rgb((2.3, 2.15, 1.85))
    if climate.lamps:
        light = light + _lamp_light(canvas, look) * (0.4 + 0.6 * shade)
    radiance = canvas.albedo * light + canvas.glow
    extinction = climate.fog + look.haze
    clear = np.exp(-extinction * np.minimum(canvas.depth, 500.0))[..., None]
    air = rgb((0.66, 0.69, 0.72)) * max(climate.sky, 0.02) * (1.0 if climate.fog else 0.8)
    radiance = radiance * clear + air * (1.0 - clear)
    if climate.wet and climate.lamps:
        _reflections(canvas, radiance)
    level = float((radiance @ _LUMA).clip(0, 2.0).mean())
    dark = climate.sky <= 0.3
    exposure = look.brightness / max(level, 1e-4)
    radiance = radiance * (min(exposure, 3.0) if dark else min(max(exposure, 0.5), 2.0))
    if climate.sun_in_view:
        radiance = radiance + _sun(canvas, rng)
    radiance = radiance + _bloom(radiance, climate.bloom * 0.25, climate.bloom > 1.5)
    if look.softness > 0.3:
        radiance = cv2.GaussianBlur(radiance, (0, 0), look.softness)
    grey = (radiance @ _LUMA)[..., None]
    radiance = np.clip(grey + look.saturation * (radiance - grey), 0.0, None) * rgb(look.cast)
    rolled = np.where(radiance > 0.6, 0.6 + 0.4 * np.tanh((radiance - 0.6) / 0.4), radiance)
    picture = np.power(rolled, np.float32(1 / 2.2))
    noise = rng.standard_normal(picture.shape, np.float32) * 0.5 + rng.standard_normal((*grey.shape[:2], 1), np.float32)
    return picture + look.noise * noise * (0.5 + np.sqrt(np.clip(picture, 0, 1)))


def see_infrared(canvas: Canvas, look: InfraredLook, rng: np.random.Generator) -> np.ndarray:
    """Render what the infrared camera sees: levels [H, W] in 0..1, white is hot."""
    climate, (height, width) = canvas.climate, canvas.heat.shape
    clear = np.exp(-(0.06 * climate.fog + 0.0005) * np.minimum(canvas.depth, 300.0))
    heat = canvas.heat * clear + (climate.ambient - 3.0) * (1.0 - clear)
    heat = cv2.GaussianBlur(heat, (0, 0), look.softness)
    things = heat[canvas.depth < 400.0]
    low, high = np.percentile(things if things.size else heat, (look.low, look.high)).tolist()
    low -= look.headroom * (high - low)
    spread = max(high - low, _MIN_RANGE)
    linear = (heat - 0.5 * (low + high)) / spread + 0.5
    linear = np.where(linear < _TOE, _TOE * np.exp((linear - _TOE) / 0.6), linear)
    linear = np.where(linear > _KNEE, _KNEE + (1 - _KNEE) * np.tanh((linear - _KNEE) / (2 * (1 - _KNEE))), linear)
    counts, edges = np.histogram(np.clip(linear, 0, 1), bins=64, range=(0.0, 1.0))
    plateau = np.minimum(counts, max(int(0.04 * heat.size), 1)).cumsum()
    equalised = np.interp(linear, edges, np.concatenate([[0.0], plateau / plateau[-1]])).astype(np.float32)
    tone = (1 - look.equalise) * np.power(linear, np.float32(look.gamma)) + look.equalise * equalised
    local = tone - cv2.GaussianBlur(tone, (0, 0), max(0.012 * width, 1.2))
    tone = tone + look.detail * local
    gx, gy = canvas.grid((0, 0, width, height))
    u, v = np.broadcast_arrays(gx * (3.0 / width), gy * (40.0 / height))
    drift = fbm(u.astype(np.float32), v.astype(np.float32), 1.0, 2)
    columns, rows = rng.standard_normal((1, width), np.float32), rng.standard_normal((height, 1), np.float32)
    tone = tone + look.pattern * (columns + 0.6 * rows + 0.8 * drift)
    return tone + look.noise * rng.standard_normal(tone.shape, np.float32)
