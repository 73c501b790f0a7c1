"""Scenes of which every split has its own."""

import pytest
import torch

from fusion_env.data import make_splits
from fusion_env.data.scene_seeds import reserved
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError


@pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (25, (19, 3, 3)), (48, (38, 5, 5))])
def test_splits_are_those_of_the_purposes(count: int, sizes: tuple[int, int, int]) -> None:
    source = SplitScenes(count, 64, 80, seed=4)
    splits = make_splits(source, seed=0)
    assert tuple(map(len, (splits.train, splits.reward, splits.report))) == sizes
    for indices, purpose in zip(
        (splits.train, splits.reward, splits.report), ("training", "reward", "report"), strict=True
    ):
        assert all(source.names[index].startswith(purpose) for index in indices)


def test_every_split_draws_from_its_own_seeds() -> None:
    seeds = [scenes.seed for scenes in SplitScenes(10, 64, 80, seed=7).parts]
    assert [next(name for name, own in reserved.items() if seed in own) for seed in seeds] == [
        "training",
        "reward",
        "report",
    ]
    assert SplitScenes(10, 64, 80, seed=8).fingerprint() != SplitScenes(10, 64, 80, seed=7).fingerprint()


def test_pairs_are_the_scenes_of_the_parts() -> None:
    source = SplitScenes(5, 64, 80)
    for index, (part, place) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]):
        pair, scene = source.load(index), source.parts[part].scene(place)
        assert pair.name == source.names[index]
        assert torch.equal(pair.ir, scene.ir)
        assert [(box.label, box.left, box.top, box.right, box.bottom) for box in source.boxes(index)] == [
            (box.label, box.x0, box.y0, box.x1, box.y1) for box in scene.boxes
        ]
        assert {box.label for box in source.boxes(index)} <= set(source.classes)
    for index in (-1, 5):
        with pytest.raises(IndexError):
            source.load(index)


def test_numbers_out_of_range() -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        SplitScenes(2, 64, 80)
    with pytest.raises(ConfigError, match="0..999999"):
        SplitScenes(3, 64, 80, seed=1_000_000)


def test_conditions_take_turns_in_the_splits_that_they_are_for() -> None:
    plain = SplitScenes(50, 64, 80)
    source = SplitScenes(50, 64, 80, conditions=("day",), test_conditions=("night", "fog", "glare"))
    train, *tested = source.parts
    assert [train.scene(index).condition for index in (0, 1, 39)] == ["day"] * 3
    for scenes in tested:
        conditions = [scenes.scene(index).condition for index in range(len(scenes))]
        assert conditions == ["night", "fog", "glare", "night", "fog"]
    assert (source.names, source.sizes) == (plain.names, plain.sizes)
    others = (SplitScenes(50, 64, 80, conditions=("day",)), SplitScenes(50, 64, 80, test_conditions=("day",)))
    assert len({scenes.fingerprint() for scenes in (plain, source, *others)}) == 4
