"""Which pairs are trained on, which pay the reward, and which are only reported."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fusion_env.data.pairs import PairSource, joint_error
from fusion_env.errors import DataError

__all__ = ["Splits", "make_splits", "tenth"]


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


_LIMIT = 2
"""Random stream of the seed for the choice of training pairs."""


def make_splits(source: PairSource, seed: int, train_limit: int | None = None) -> Splits:
    """Split a source, the same way for the same names and seed.

    Frames of one scene have neighbouring names, and a student that was trained on one of them knows the others. Splits
    are therefore blocks in the order of the names, cut at a seeded place, and never single pairs drawn here and there.

    If the source has ``split_names`` (`fusion_env.data.PairedFolder` with ``train.txt``, ``val.txt`` and optionally
    ``reward.txt``), they are training, report and reward split; without a list for the reward, a block of one tenth of
    the training list takes its place. Pairs in no list are left out. Without lists one block of a tenth pays the
    reward, the next one is reported, and the rest is trained on. Tenths are rounded half up and hold at least one pair.

    Args:
        source: The pairs.
        seed: Seed of the place of the blocks, at least 0.
        train_limit: Keep at most so many training pairs, a seeded choice; None keeps all.

    Returns:
        The three parts, none of them empty.

    Raises:
        DataError: If there are too few pairs to fill all parts, or a pair stands in two lists.
    """
    splits = _make_splits(source, np.random.default_rng(seed))
    if train_limit is None or train_limit >= len(splits.train):
        return splits
    chosen = np.random.default_rng([seed, _LIMIT]).choice(splits.train, train_limit, replace=False)
    return replace(splits, train=tuple(sorted(chosen.tolist())))


def _make_splits(source: PairSource, rng: np.random.Generator) -> Splits:
    if source.split_names is not None:
        return _listed_splits(source, source.split_names, rng)
    if len(source) < 3:
        raise DataError(f"{source.name}: training, reward and report need at least 3 image pairs. Got {len(source)}")
    few = tenth(len(source))
    both, train = _cut_block(tuple(range(len(source))), 2 * few, rng)
    return Splits(train, both[:few], both[few:])


def _listed_splits(source: PairSource, lists: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> Splits:
    _check_disjoint(source.name, lists)
    needed = 1 if "reward" in lists else 2
    if len(lists["train"]) < needed or not all(lists.values()):
        counts = ", ".join(f"{part} {len(names)}" for part, names in lists.items())
        raise DataError(
            f"{source.name}: the training list needs at least 2 pairs (1 beside a list for the reward), every other "
            f"list 1. Got {counts}"
        )
    position = {name: index for index, name in enumerate(source.names)}
    # Sorted, so that reordering the lines of a list changes nothing.
    parts = {part: tuple(sorted(position[name] for name in names)) for part, names in lists.items()}
    if "reward" in parts:
        return Splits(parts["train"], parts["reward"], parts["val"])
    reward, train = _cut_block(parts["train"], tenth(len(parts["train"])), rng)
    return Splits(train, reward, parts["val"])


def _check_disjoint(source: str, lists: Mapping[str, tuple[str, ...]]) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for part, names in lists.items():
        for name in names:
            found[name].append(part)
    problems = [f"{name!r} in {' and '.join(parts)}" for name, parts in found.items() if len(parts) > 1]
    if problems:
        raise joint_error(f"{source}: no pair may be listed twice", problems)


def _cut_block(
    indices: tuple[int, ...], count: int, rng: np.random.Generator
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cut `count` neighbours out of ascending indices; return them and the rest."""
    start = int(rng.integers(len(indices) - count + 1))
    return indices[start : start + count], indices[:start] + indices[start + count :]


def tenth(count: int) -> int:
    """Return a tenth of some pairs, rounded half up, at least 1."""
    return max(1, (count + 5) // 10)
