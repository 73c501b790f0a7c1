"""The geometry buffer that a scene is painted into once and that both sensors read."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Camera", "Canvas", "Climate", "Light", "Value", "capsule", "rgb"]

_SHIFT = 4
_CHANNELS = 9
_REACH = 2**18
Value = np.ndarray | float | tuple[float, float, float]
"""What a layer can be painted with: one number, one colour, or a value per pixel."""


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera over flat ground; world axes are X right, Y up, Z forward, in metres.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        focal: Focal length in pixels.
        horizon: Row of the horizon.
        centre: Column of the vanishing point of lines along Z.
        eye: Height of the camera above the ground in metres.
    """

    height: int
    width: int
    focal: float
    horizon: float
    centre: float
    eye: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points [n, 3] in front of the camera to pixel coordinates [n, 2] (x, y)."""
        points = np.asarray(points, np.float64)
        z = np.maximum(points[:, 2], 0.2)
        x = self.centre + self.focal * points[:, 0] / z
        y = self.horizon + self.focal * (self.eye - points[:, 1]) / z
        return np.stack([x, y], axis=1)

    def ground_depth(self, row: float) -> float:
        """Distance in metres of the ground seen at a row below the horizon."""
        return self.focal * self.eye / max(row - self.horizon, 1e-3)


@dataclass(frozen=True)
class Climate:
    """Weather and light of a scene.

    Attributes:
        condition: One of the names in ``CONDITIONS``.
        ambient: Air temperature in degrees Celsius.
        sun: Strength of direct sunlight, 0 (night, overcast) to 1.
        sky: Strength of skylight, 0 (deep night) to 1.
        warmth: Heat that ground and walls kept from the day, 0 to 1.
        sun_shift: Horizontal shift (X, Z) of a shadow in metres per metre of height.
        wet: How much the road mirrors lights, 0 to 1.
        fog: Extinction per metre in the visible band.
        lamps: Whether street lamps, headlights and windows are lit.
        bloom: Strength of the glare around light sources, 1 is a clean lens.
        sun_in_view: Whether the sun itself is in the picture.
    """

    condition: str
    ambient: float
    sun: float
    sky: float
    warmth: float
    sun_shift: tuple[float, float]
    wet: float
    fog: float
    lamps: bool
    bloom: float
    sun_in_view: bool

    def heated(self, by_sun: float, at_night: float) -> float:
        """Temperature of a surface that the full sun heats ``by_sun`` degrees and the past day ``at_night`` degrees."""
        return self.ambient + by_sun * (0.25 * min(self.sky, 1.0) + 0.75 * self.sun) + at_night * self.warmth


@dataclass(frozen=True)
class Light:
    """A lamp: position in metres, linear RGB colour, power, and how far it shines towards the camera (``beam``)."""

    x: float
    y: float
    z: float
    colour: tuple[float, float, float]
    power: float
    beam: float = 0.0


@dataclass
class Canvas:
    """Layers of one scene, painted back to front with antialiased masks.

    Every paint call writes the same mask into all layers, so the infrared and the visible picture are registered by
    construction. The layers are reflectance (3), ``shade`` (share of the sun that arrives), ``glow`` (light given off,
    3), ``heat`` (apparent temperature, degrees Celsius) and ``depth`` (metres).
    """

    camera: Camera
    climate: Climate
    layers: np.ndarray = field(init=False)
    owner: np.ndarray = field(init=False)
    lights: list[Light] = field(default_factory=list)
    painted: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        self.layers = np.zeros((*shape, _CHANNELS), np.float32)
        self.owner = np.zeros(shape, np.int16)

    @property
    def albedo(self) -> np.ndarray:
        """Diffuse reflectance, linear RGB [H, W, 3]."""
        return self.layers[..., 0:3]

    @property
    def shade(self) -> np.ndarray:
        """Share of direct light that arrives [H, W]."""
        return self.layers[..., 3]

    @property
    def glow(self) -> np.ndarray:
        """Light given off, linear RGB [H, W, 3]."""
        return self.layers[..., 4:7]

    @property
    def heat(self) -> np.ndarray:
        """Apparent temperature in degrees Celsius [H, W]."""
        return self.layers[..., 7]

    @property
    def depth(self) -> np.ndarray:
        """Distance along Z in metres [H, W]."""
        return self.layers[..., 8]

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int] | None:
        """Clip a pixel rectangle to the image; None if nothing is left."""
        left, top = max(math.floor(x0), 0), max(math.floor(y0), 0)
        right, bottom = min(math.ceil(x1) + 1, self.camera.width), min(math.ceil(y1) + 1, self.camera.height)
        return (left, top, right, bottom) if right > left and bottom > top else None

    def grid(self, window: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates (x [1, w], y [h, 1]) of a window, float32."""
        left, top, right, bottom = window
        return np.arange(left, right, dtype=np.float32)[None], np.arange(top, bottom, dtype=np.float32)[:, None]

    def paint(
        self,
        mask: np.ndarray,
        window: tuple[int, int, int, int],
        albedo: Value,
        heat: np.ndarray | float,
        depth: np.ndarray | float,
        shade: np.ndarray | float = 1.0,
        glow: Value = 0.0,
        owner: int = 0,
    ) -> None:
        """Blend a surface into all layers with one mask in 0..1 that has the shape of ``window``."""
        left, top, right, bottom = window
        region = self.layers[top:bottom, left:right]
        values = np.empty_like(region)
        values[..., 0:3], values[..., 3], values[..., 4:7] = albedo, shade, glow
        values[..., 7], values[..., 8] = heat, depth
        self._blend(mask, window, values, owner)

    def _blend(self, mask: np.ndarray, window: tuple[int, int, int, int], values: np.ndarray, owner: int) -> None:
        """Move all layers in a window towards ``values`` ([9] or [h, w, 9]) by ``mask``."""
        left, top, right, bottom = window
        region = self.layers[top:bottom, left:right]
        change = values - region
        change *= mask[..., None]
        region += change
        solid = mask > 0.5
        self.owner[top:bottom, left:right][solid] = owner
        if owner:
            self.painted[owner] = self.painted.get(owner, 0) + int(np.count_nonzero(solid))

    def mask(self, *outlines: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]] | None:
        """Rasterise the union of convex polygons [n, 2] in pixels, antialiased.

        Returns:
            Mask in 0..1 and its window, or None if nothing lies in the image.
        """
        points = outlines[0] if len(outlines) == 1 else np.concatenate(outlines)
        (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        window = self.window(x0 - 1, y0 - 1, x1 + 1, y1 + 1)
        if window is None:
            return None
        left, top, right, bottom = window
        raster = np.zeros((bottom - top, right - left), np.uint8)
        for outline in outlines:
            local = (outline - (left, top)) * 2**_SHIFT
            cv2.fillConvexPoly(raster, np.rint(local).clip(-_REACH, _REACH).astype(np.int32), 255, cv2.LINE_AA, _SHIFT)
        return raster.astype(np.float32) * np.float32(1 / 255), window

    def polygon(
        self,
        points: np.ndarray,
        albedo: Value,
        heat: float,
        depth: float,
        shade: float = 1.0,
        glow: Value = 0.0,
        owner: int = 0,
        falloff: float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Fill a convex polygon [n, 2] given in pixels; ``falloff`` darkens it from top to bottom by that share."""
        self.polygons([points], albedo, heat, depth, shade, glow, owner, falloff, opacity)

    def polygons(
        self,
        outlines: list[np.ndarray],
        albedo: Value,
        heat: float,
        depth: float,
        shade: float = 1.0,
        glow: Value = 0.0,
        owner: int = 0,
        falloff: float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Fill the union of several convex polygons as `polygon` does for one."""
        rasterised = self.mask(*outlines)
        if rasterised is None:
            return
        mask, window = rasterised
        values = np.empty(_CHANNELS, np.float32)
        values[0:3], values[3], values[4:7], values[7], values[8] = albedo, shade, glow, heat, depth
        if falloff:
            low, high = outlines[0][:, 1].min(), outlines[0][:, 1].max()
            _, y = self.grid(window)
            fade = 1.0 - falloff * np.clip((y - float(low)) / max(float(high - low), 1.0), 0.0, 1.0)
            values = np.repeat(values[None, None], len(fade), axis=0)
            values[..., 3] *= fade
        self._blend(mask * np.float32(opacity) if opacity < 1.0 else mask, window, values, owner)

    def shadow(self, points: np.ndarray, strength: float, cooling: float, softness: float) -> None:
        """Darken (and cool by ``cooling`` degrees) what lies under a ground polygon [n, 2] in pixels."""
        rasterised = self.mask(points)
        if rasterised is None:
            return
        mask, (left, top, right, bottom) = rasterised
        if softness > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), softness)
        self.layers[top:bottom, left:right, 3] *= 1.0 - strength * mask
        self.layers[top:bottom, left:right, 7] -= cooling * mask


def rgb(colour: ArrayLike) -> np.ndarray:
    """Colour as a float32 array, so that products with images stay float32."""
    return np.asarray(colour, np.float32)


_ARC = np.linspace(-np.pi / 2, np.pi / 2, 7)
_UNIT_ARC = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)


def capsule(a: tuple[float, float], b: tuple[float, float], radius_a: float, radius_b: float) -> np.ndarray:
    """Outline [14, 2] of a limb: two half discs around ``a`` and ``b`` and the lines between them."""
    angle = math.atan2(b[1] - a[1], b[0] - a[0])
    cos, sin = math.cos(angle), math.sin(angle)
    arc = _UNIT_ARC @ np.array([[cos, sin], [-sin, cos]])
    return np.concatenate([arc * radius_b + b, a - arc * radius_a])
