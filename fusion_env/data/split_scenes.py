"""Procedural scenes of which every split has its own, none of them known to the embedded networks."""

import hashlib
from dataclasses import dataclass, field

from fusion_env.data.labels import Box
from fusion_env.data.pairs import ImagePair, PairSource
from fusion_env.data.procedural import ProceduralScenes
from fusion_env.data.scene_seeds import scene_seed
from fusion_env.data.splits import tenth
from fusion_env.errors import ConfigError

__all__ = ["SplitScenes"]

_PURPOSES = {"train": "training", "reward": "reward", "val": "report"}
"""Which scenes of `fusion_env.data.scene_seeds` each split list is made of."""


@dataclass(frozen=True)
class SplitScenes(PairSource):
    """Scenes for one distillation: a tenth for the reward, a tenth for the report, the rest for training.

    Attributes:
        count: Number of pairs, at least 3.
        height: Rows of every picture, at least 64.
        width: Columns of every picture, at least 64.
        seed: Which scenes, 0 to 999,999.
        conditions: Conditions of the scenes for training, which take turns; none = drawn for each.
        test_conditions: Those of the scenes for reward and report.
        names: Names of the pairs, such as ``training_00012``.
        sizes: Height and width of every pair.
        split_names: The three lists.
        parts: The scenes of each list.
        classes: Names of the labelled classes.

    Raises:
        ConfigError: A number is out of range.
    """

    count: int
    height: int
    width: int
    seed: int = 0
    conditions: tuple[str, ...] = ()
    test_conditions: tuple[str, ...] = ()
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    sizes: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    split_names: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    parts: tuple[ProceduralScenes, ...] = field(init=False, repr=False, compare=False)
    name = "procedural"
    classes = ProceduralScenes.classes

    def __post_init__(self) -> None:
        """Check the arguments and name the pairs."""
        if self.count < len(_PURPOSES):
            raise ConfigError(f"count must be at least {len(_PURPOSES)}, got {self.count}")
        few = tenth(self.count)
        counts = {"train": self.count - 2 * few, "reward": few, "val": few}
        parts = {
            part: ProceduralScenes(
                counts[part],
                self.height,
                self.width,
                scene_seed(purpose, self.seed),
                (self.conditions if part == "train" else self.test_conditions) or None,
            )
            for part, purpose in _PURPOSES.items()
        }
        split_names = {
            part: tuple(f"{_PURPOSES[part]}_{index:05d}" for index in range(len(scenes)))
            for part, scenes in parts.items()
        }
        names = tuple(name for part in split_names.values() for name in part)
        object.__setattr__(self, "parts", tuple(parts.values()))
        object.__setattr__(self, "split_names", split_names)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "sizes", ((self.height, self.width),) * len(names))

    def load(self, index: int) -> ImagePair:
        """Render pair ``index``; IndexError outside 0..count-1."""
        scenes, place = self._find(index)
        scene = scenes.scene(place)
        return ImagePair(self.names[index], scene.ir, scene.vis)

    def boxes(self, index: int) -> tuple[Box, ...]:
        """Return the boxes of pair ``index``; IndexError outside 0..count-1."""
        scenes, place = self._find(index)
        return scenes.boxes(place)

    def _find(self, index: int) -> tuple[ProceduralScenes, int]:
        """Return the scenes that a pair is one of, and its index there."""
        if not 0 <= index < self.count:
            raise IndexError(f"index must lie in 0..{self.count - 1}, got {index}")
        for scenes in self.parts:
            if index < len(scenes):
                break
            index -= len(scenes)
        return scenes, index

    def fingerprint(self) -> str:
        """Hash of the parameters and of the rendering's version; equal exactly if all pixels are."""
        return hashlib.sha256("/".join(scenes.fingerprint() for scenes in self.parts).encode()).hexdigest()
