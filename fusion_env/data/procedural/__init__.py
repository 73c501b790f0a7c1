"""Registered infrared/visible street scenes, rendered from one description.

A scene is painted once into layers (reflectance, light given off, temperature, depth) and then read by two cameras, so
that infrared and visible are registered by construction. Nothing is read from disk and no picture is copied: the scenes
serve where no data set is at hand. They are no substitute for real pairs when numbers are to be published.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch

from fusion_env.data.labels import Box as LabelBox
from fusion_env.data.pairs import ImagePair, PairSource
from fusion_env.data.procedural.layout import LABELS, build_scene
from fusion_env.data.procedural.sensors import draw_infrared_look, draw_visible_look, see_infrared, see_visible
from fusion_env.errors import ConfigError, unknown_name

__all__ = ["CONDITIONS", "SCENE_VERSION", "Box", "ProceduralScenes", "Scene", "render_scene"]

CONDITIONS = ("day", "night", "fog", "glare")
SCENE_VERSION = 1
"""Number of the rendering; it must grow whenever the same seed gives other pixels (caches and weights depend on it)."""

_MIN_SIZE = 64
_CONDITION_SHARES = (0.36, 0.34, 0.15, 0.15)
# Of all pixels painted for an object; its parts overlap, so that this is about a fifth of its outline.
_VISIBLE_SHARE = 0.1
_MIN_BOX = (2, 5)


@dataclass(frozen=True)
class Box:
    """What is seen of an object: pixels ``x0 <= x < x1``, ``y0 <= y < y1``; label ``person`` or ``vehicle``."""

    label: str
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Scene:
    """One rendered pair.

    Attributes:
        ir: Infrared picture, uint8 [1, H, W], white is hot.
        vis: Visible picture, uint8 RGB [3, H, W].
        boxes: People and vehicles that can be seen.
        condition: One of ``CONDITIONS``.
    """

    ir: torch.Tensor
    vis: torch.Tensor
    boxes: tuple[Box, ...]
    condition: str


def _check_size(height: int, width: int) -> None:
    """Raise ConfigError if a picture would be too small to hold a scene."""
    for name, value in (("height", height), ("width", width)):
        if value < _MIN_SIZE:
            raise ConfigError(
                f"{name} must be at least {_MIN_SIZE} pixels, got {value}: ask for larger scenes and crop them"
            )


def _check_condition(condition: str | None) -> None:
    """Raise UnknownNameError if there is no such condition."""
    if condition is not None and condition not in CONDITIONS:
        raise unknown_name("condition", condition, CONDITIONS)


def _levels(picture: np.ndarray) -> np.ndarray:
    """Round a picture in 0..1 to uint8."""
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _boxes(owner: np.ndarray, painted: dict[int, int], labels: dict[int, str]) -> tuple[Box, ...]:
    """Boxes around what is left visible of every labelled object."""
    boxes = []
    for number, label in labels.items():
        rows, columns = np.nonzero(owner == number)
        if rows.size == 0 or rows.size < _VISIBLE_SHARE * painted[number]:
            continue
        x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        if x1 - x0 >= _MIN_BOX[0] and y1 - y0 >= _MIN_BOX[1]:
            boxes.append(Box(label, int(x0), int(y0), int(x1), int(y1)))
    return tuple(boxes)


def render_scene(seed: int, height: int, width: int, condition: str | None = None) -> Scene:
    """Render one registered pair.

    Args:
        seed: Decides everything in the scene; the same seed and arguments give the same bytes in every process. Other
            versions of NumPy or OpenCV round a few per cent of the bytes differently, rarely by more than one level.
        height: Rows, at least 64.
        width: Columns, at least 64.
        condition: One of ``CONDITIONS``; drawn from the seed if None.

    Returns:
        The pair with the boxes of its people and vehicles.

    Raises:
        ConfigError: If the size is too small or the seed is negative.
        UnknownNameError: If the condition is not known.
    """
    _check_size(height, width)
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    _check_condition(condition)
    rng = np.random.default_rng([SCENE_VERSION, seed])
    drawn = str(rng.choice(CONDITIONS, p=_CONDITION_SHARES))
    chosen = condition or drawn
    canvas, labels = build_scene(rng, height, width, chosen)
    visible = draw_visible_look(rng, chosen, canvas.climate.sky <= 0.3)
    infrared = draw_infrared_look(rng)
    vis = _levels(see_visible(canvas, visible, rng))
    ir = _levels(see_infrared(canvas, infrared, rng))
    return Scene(
        ir=torch.from_numpy(ir)[None],
        vis=torch.from_numpy(np.ascontiguousarray(vis.transpose(2, 0, 1))),
        boxes=_boxes(canvas.owner, canvas.painted, labels),
        condition=chosen,
    )


@dataclass(frozen=True)
class ProceduralScenes(PairSource):
    """A source of rendered pairs; pair i depends on (seed, i) and the size only.

    Attributes:
        count: Number of pairs.
        height: Rows of every picture, at least 64.
        width: Columns of every picture, at least 64.
        seed: Start of the sequence.
        condition: One of ``CONDITIONS`` for all pairs, or several that take turns; None: drawn for each.
        names: Names of the pairs, such as ``scene_00012``.
        sizes: Height and width of every pair.
        classes: Names of the labelled classes.
    """

    count: int
    height: int
    width: int
    seed: int = 0
    condition: str | tuple[str, ...] | None = None
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    sizes: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    name = "procedural"
    classes = LABELS

    def __post_init__(self) -> None:
        """Check the arguments and name the pairs."""
        for condition in self._conditions:
            _check_condition(condition)
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, got {self.count}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        _check_size(self.height, self.width)
        object.__setattr__(self, "names", tuple(f"scene_{index:05d}" for index in range(self.count)))
        object.__setattr__(self, "sizes", ((self.height, self.width),) * self.count)

    def scene(self, index: int) -> Scene:
        """Render pair ``index`` with its boxes; IndexError outside 0..count-1."""
        if not 0 <= index < self.count:
            raise IndexError(f"index must lie in 0..{self.count - 1}, got {index}")
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        return render_scene(seed, self.height, self.width, self._conditions[index % len(self._conditions)])

    @property
    def _conditions(self) -> tuple[str | None, ...]:
        return self.condition if isinstance(self.condition, tuple) else (self.condition,)

    def load(self, index: int) -> ImagePair:
        """Render pair ``index`` as an image pair."""
        scene = self.scene(index)
        return ImagePair(self.names[index], scene.ir, scene.vis)

    def boxes(self, index: int) -> tuple[LabelBox, ...]:
        """Return the boxes of pair ``index`` in the form of a labelled data set."""
        return tuple(LabelBox(box.label, box.x0, box.y0, box.x1, box.y1) for box in self.scene(index).boxes)

    def fingerprint(self) -> str:
        """Hash of the parameters and of the rendering's version; equal exactly if all pixels are."""
        text = f"procedural/{SCENE_VERSION}/{self.count}/{self.height}/{self.width}/{self.seed}"
        if self.condition is not None:
            text += f"/{'+'.join(map(str, self._conditions))}"
        return hashlib.sha256(text.encode()).hexdigest()
