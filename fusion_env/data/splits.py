"""Which pairs are trained on, which pay the reward, and which are only reported."""

from dataclasses import dataclass

import numpy as np

from fusion_env.data.pairs import PairSource
from fusion_env.errors import DataError

__all__ = ["Splits", "make_splits"]


@dataclass(frozen=True)
class Splits:
    """Hold the three disjoint parts of a source as ascending pair indices.

    Attributes:
        train: Pairs that the student is trained on.
        reward: Pairs behind observation and reward.
        report: Pairs scored at the end of a run only; the agent never sees them.
    """

    train: tuple[int, ...]
    reward: tuple[int, ...]
    report: tuple[int, ...]


def make_splits(source: PairSource, seed: int) -> Splits:
    """Split a source, the same way for the same names and seed.

    If the source has ``split_names`` (`fusion_env.data.PairedFolder` with ``train.txt`` and ``val.txt``), a random
    tenth of the training list pays the reward, its rest is trained on, and the validation list is reported; pairs in
    neither list are left out. Otherwise a random tenth is reported, another one pays the reward. Tenths are rounded
    half up and hold at least one pair.

    Args:
        source: The pairs.
        seed: Seed of the random choice, at least 0.

    Returns:
        The three parts, none of them empty.

    Raises:
        DataError: If there are too few pairs to fill all parts: 3, or 2 in the training and 1 in the validation list.
    """
    rng = np.random.default_rng(seed)
    lists = source.split_names
    if lists is None:
        if len(source) < 3:
            raise DataError(
                f"{source.name}: training, reward and report need at least 3 image pairs. Got {len(source)}"
            )
        shuffled, tenth = rng.permutation(len(source)), _tenth(len(source))
        return Splits(_sorted(shuffled[2 * tenth :]), _sorted(shuffled[tenth : 2 * tenth]), _sorted(shuffled[:tenth]))

    if len(lists["train"]) < 2 or not lists["val"]:
        raise DataError(
            f"{source.name}: the training list needs at least 2 pairs (training and reward), the validation list 1. "
            f"Got {len(lists['train'])} and {len(lists['val'])}"
        )
    index = {name: position for position, name in enumerate(source.names)}
    # Sorted first, so that reordering the lines of a list changes nothing.
    shuffled = rng.permutation(sorted(index[name] for name in lists["train"]))
    tenth = _tenth(len(shuffled))
    report = np.array([index[name] for name in lists["val"]])
    return Splits(_sorted(shuffled[tenth:]), _sorted(shuffled[:tenth]), _sorted(report))


def _tenth(count: int) -> int:
    return max(1, (count + 5) // 10)


def _sorted(indices: np.ndarray) -> tuple[int, ...]:
    return tuple(int(index) for index in np.sort(indices))
