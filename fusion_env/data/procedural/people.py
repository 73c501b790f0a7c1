"""Pedestrians: jointed figures whose skin is warmer than their clothes."""

from dataclasses import dataclass

import numpy as np

from fusion_env.data.procedural.canvas import Canvas, Value, capsule

__all__ = ["Person", "draw_person", "paint_person", "person_outline"]

_SKIN = 33.5
_CLOTHES = (
    (0.03, 0.03, 0.035),
    (0.05, 0.07, 0.16),
    (0.30, 0.30, 0.30),
    (0.55, 0.54, 0.52),
    (0.35, 0.04, 0.04),
    (0.10, 0.14, 0.07),
    (0.42, 0.30, 0.12),
    (0.10, 0.20, 0.38),
    (0.60, 0.45, 0.05),
)
_SKINS = ((0.48, 0.30, 0.21), (0.33, 0.19, 0.12), (0.12, 0.065, 0.04), (0.55, 0.38, 0.28))


@dataclass(frozen=True)
class Person:
    """A pedestrian.

    Attributes:
        x: X of the feet in metres.
        z: Z of the feet in metres.
        height: Body height in metres.
        side: Whether seen from the side (else from the front or back).
        back: Whether the face is turned away.
        stride: Phase of the walk, radians; 0 stands.
        heading: 1 walks to the right, -1 to the left.
        coat: Linear RGB of the upper clothes.
        trousers: Linear RGB of the lower clothes.
        skin: Linear RGB of the skin.
        insulation: Share of the body heat that the coat holds back, 0..1.
        bag: Whether a bag is carried, which is as cold as the air.
        long_coat: Whether the coat reaches the knees.
    """

    x: float
    z: float
    height: float
    side: bool
    back: bool
    stride: float
    heading: float
    coat: tuple[float, float, float]
    trousers: tuple[float, float, float]
    skin: tuple[float, float, float]
    insulation: float
    bag: bool
    long_coat: bool


def draw_person(rng: np.random.Generator, x: float, z: float) -> Person:
    """Draw the looks and pose of a pedestrian at a given place."""
    return Person(
        x=x,
        z=z,
        height=float(np.clip(rng.normal(1.70, 0.10), 1.2, 1.95)),
        side=bool(rng.random() < 0.4),
        back=bool(rng.random() < 0.5),
        stride=float(rng.uniform(0, 2 * np.pi)) if rng.random() < 0.75 else 0.0,
        heading=float(rng.choice([-1.0, 1.0])),
        coat=_CLOTHES[int(rng.integers(len(_CLOTHES)))],
        trousers=_CLOTHES[int(rng.integers(4))],
        skin=_SKINS[int(rng.integers(len(_SKINS)))],
        insulation=float(rng.uniform(0.4, 0.85)),
        bag=bool(rng.random() < 0.3),
        long_coat=bool(rng.random() < 0.2),
    )


def person_outline(person: Person) -> np.ndarray:
    """Corners [8, 3] of the prism that throws the shadow."""
    half, top = 0.2, person.height
    x = person.x + np.array([-half, half, half, -half])
    z = person.z + np.array([-0.1, -0.1, 0.1, 0.1])
    low, high = np.stack([x, np.zeros(4), z], 1), np.stack([x, np.full(4, top), z], 1)
    return np.concatenate([low, high])


class _Figure:
    """Paint limbs given in body coordinates: sideways and up, in shares of the body height."""

    def __init__(self, canvas: Canvas, person: Person, owner: int) -> None:
        self.canvas, self.person, self.owner = canvas, person, owner
        camera = canvas.camera
        self.unit = camera.focal * person.height / person.z
        self.foot = (
            camera.centre + camera.focal * person.x / person.z,
            camera.horizon + camera.focal * camera.eye / person.z,
        )

    def warmth(self, insulation: float) -> float:
        """Apparent temperature of clothing with a given insulation."""
        air = self.canvas.climate.ambient
        return air + (_SKIN - air) * (1.0 - insulation) + 4.0 * self.canvas.climate.sun * insulation

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel position of a body coordinate."""
        return self.foot[0] + x * self.unit, self.foot[1] - y * self.unit

    def limb(
        self,
        a: tuple[float, float],
        b: tuple[float, float],
        ra: float,
        rb: float,
        colour: Value,
        heat: float,
        shade: float,
    ) -> None:
        """Paint a capsule from ``a`` to ``b``."""
        outline = capsule(self.at(*a), self.at(*b), max(ra * self.unit, 0.35), max(rb * self.unit, 0.35))
        self.canvas.polygon(outline, np.asarray(colour, float), heat, self.person.z, shade, 0.0, self.owner)

    def shape(
        self, points: list[tuple[float, float]], colour: Value, heat: float, shade: float, falloff: float = 0.0
    ) -> None:
        """Paint a polygon."""
        outline = np.array([self.at(*p) for p in points])
        self.canvas.polygon(outline, np.asarray(colour, float), heat, self.person.z, shade, 0.0, self.owner, falloff)


def _legs(figure: _Figure) -> None:
    """Paint trousers and shoes in the phase of the walk."""
    person = figure.person
    heat, shoe = figure.warmth(0.55), figure.warmth(0.8)
    swing = 0.11 * np.sin(person.stride)
    gap = 0.0 if person.side else 0.048
    for leg in (-1.0, 1.0):
        reach = leg * swing * person.heading if person.side else 0.02 * leg
        lift = max(leg * np.sin(person.stride), 0.0) * 0.05 if person.stride else 0.0
        hip, knee = (leg * gap, 0.49), (leg * gap + 0.55 * reach, 0.27 + 0.3 * lift)
        ankle = (leg * gap * 0.9 + reach - 0.4 * lift * person.heading * person.side, 0.045 + lift)
        shade = 0.65 if leg < 0 else 0.85
        figure.limb(knee, ankle, 0.036, 0.025, person.trousers, heat - 1.0, shade)
        figure.limb(hip, knee, 0.055, 0.038, person.trousers, heat, shade)
        toe = (ankle[0] + (0.05 * person.heading if person.side else 0.006 * leg), ankle[1] - 0.022)
        figure.limb((ankle[0], ankle[1] - 0.02), toe, 0.022, 0.018, (0.03, 0.03, 0.03), shoe, shade)


def _arm(figure: _Figure, arm: float) -> None:
    """Paint one arm (-1 or 1), which swings against the leg of its side."""
    person = figure.person
    heat = figure.warmth(person.insulation + 0.05)
    swing = -0.12 * arm * np.sin(person.stride) * person.heading if person.side else 0.0
    shoulder = (0.0 if person.side else arm * 0.105, 0.795)
    elbow = (shoulder[0] + 0.6 * swing + (0.0 if person.side else arm * 0.025), 0.63)
    hand = (elbow[0] + 0.9 * swing + 0.02 * person.side * person.heading, 0.485)
    figure.limb(shoulder, elbow, 0.032, 0.027, np.asarray(person.coat) * 0.9, heat, 0.75)
    figure.limb(elbow, hand, 0.026, 0.02, np.asarray(person.coat) * 0.9, heat - 0.5, 0.75)
    figure.limb(hand, (hand[0], hand[1] - 0.025), 0.02, 0.017, person.skin, figure.warmth(0.15), 0.8)


def _torso(figure: _Figure) -> None:
    """Paint the coat, warmer on one half, and the bag."""
    person = figure.person
    heat = figure.warmth(person.insulation)
    shoulder, waist, hem = (0.062, 0.055, 0.058) if person.side else (0.118, 0.085, 0.092)
    low = 0.30 if person.long_coat else 0.46
    outline = [
        (-shoulder, 0.80),
        (-0.03, 0.845),
        (0.03, 0.845),
        (shoulder, 0.80),
        (waist, 0.62),
        (hem, low),
        (-hem, low),
        (-waist, 0.62),
    ]
    figure.shape(outline, person.coat, heat, 0.95, 0.35)
    figure.shape(
        [(0.0, 0.83), (shoulder * 0.9, 0.79), (waist * 0.8, 0.62), (0.0, 0.60)],
        np.asarray(person.coat) * 1.15,
        heat + 1.5,
        1.0,
        0.2,
    )
    if person.bag:
        side = person.heading * (0.9 if person.side else 1.0)
        figure.shape(
            [(-side * 0.03, 0.78), (-side * 0.12, 0.76), (-side * 0.13, 0.56), (-side * 0.03, 0.56)],
            (0.16, 0.05, 0.05),
            figure.warmth(0.9),
            0.8,
            0.2,
        )


def _head(figure: _Figure) -> None:
    """Paint neck, face and hair."""
    person = figure.person
    face, hair = figure.warmth(0.02), figure.warmth(0.32)
    figure.limb((0, 0.83), (0, 0.87), 0.028, 0.027, person.skin, face, 0.7)
    figure.limb((0.006 * person.heading * person.side, 0.905), (0, 0.945), 0.044, 0.05, person.skin, face, 0.9)
    if person.back:
        figure.limb((0, 0.925), (0, 0.95), 0.05, 0.053, (0.03, 0.022, 0.018), hair, 0.8)
        return
    shift = -0.016 * person.heading * person.side
    figure.limb((shift - 0.012, 0.965), (shift + 0.012, 0.965), 0.04, 0.04, (0.03, 0.022, 0.018), hair, 0.8)


def paint_person(canvas: Canvas, person: Person, owner: int) -> None:
    """Paint a pedestrian, far arm first."""
    figure = _Figure(canvas, person, owner)
    foot = np.array(figure.foot)
    spot = foot + np.array([[-0.16, -0.03], [0.16, -0.03], [0.16, 0.03], [-0.16, 0.03]]) * figure.unit
    canvas.shadow(spot, 0.5, 0.0, 0.03 * figure.unit)
    _arm(figure, -1.0)
    _legs(figure)
    _torso(figure)
    _arm(figure, 1.0)
    _head(figure)
