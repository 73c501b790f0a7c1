from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_env.data.folder import PairedFolder
from fusion_env.data.pairs import ImagePair, PairSource
from fusion_env.data.splits import make_splits
from fusion_env.errors import DataError

seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class _Names(PairSource):
    """A source of names only: splitting must not look at pictures."""

    names: tuple[str, ...]
    split_names: dict[str, tuple[str, ...]] | None = None
    name: str = "names"

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        raise AssertionError("sizes were read")

    def load(self, index: int) -> ImagePair:
        raise AssertionError("a picture was loaded")

    def fingerprint(self) -> str:
        raise AssertionError("a fingerprint was taken")


def _source(count: int) -> _Names:
    return _Names(tuple(f"{number:04}" for number in range(count)))


def _listed(train: int, val: int, unused: int = 0) -> _Names:
    source = _source(train + val + unused)
    # interleaved and reversed, so that order in the lists differs from order in the source
    names = source.names[::-1]
    return replace(source, split_names={"val": names[:val], "train": names[val : val + train]})


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (3, (1, 1, 1)),
        (10, (8, 1, 1)),
        (14, (12, 1, 1)),
        (15, (11, 2, 2)),
        (100, (80, 10, 10)),
        (3240, (2592, 324, 324)),
    ],
)
def test_eighty_ten_ten(count: int, sizes: tuple[int, int, int]) -> None:
    splits = make_splits(_source(count), seed=0)
    assert (len(splits.train), len(splits.reward), len(splits.report)) == sizes


@pytest.mark.parametrize(
    ("train", "val", "sizes"), [(2, 1, (1, 1, 1)), (161, 20, (145, 16, 20)), (2940, 300, (2646, 294, 300))]
)
def test_lists(train: int, val: int, sizes: tuple[int, int, int]) -> None:
    source = _listed(train, val)
    splits = make_splits(source, seed=0)
    assert (len(splits.train), len(splits.reward), len(splits.report)) == sizes
    assert {source.names[index] for index in splits.report} == set(source.split_names["val"])
    assert {source.names[index] for index in splits.train + splits.reward} == set(source.split_names["train"])


@given(st.integers(3, 300), seeds)
@settings(deadline=None, max_examples=50)
def test_parts_cover_everything_once(count: int, seed: int) -> None:
    splits = make_splits(_source(count), seed)
    assert sorted(splits.train + splits.reward + splits.report) == list(range(count))
    for part in (splits.train, splits.reward, splits.report):
        assert part == tuple(sorted(part))
        assert len(part) >= 1
        assert all(type(index) is int for index in part)
    assert splits == make_splits(_source(count), seed)


@given(st.integers(2, 100), st.integers(1, 30), st.integers(0, 10), seeds)
@settings(deadline=None, max_examples=50)
def test_listed_parts_are_disjoint_and_omit_unlisted_pairs(train: int, val: int, unused: int, seed: int) -> None:
    source = _listed(train, val, unused)
    splits = make_splits(source, seed)
    together = splits.train + splits.reward + splits.report
    assert len(set(together)) == len(together) == train + val
    assert min(len(splits.train), len(splits.reward), len(splits.report)) >= 1


def test_seed_decides() -> None:
    assert len({make_splits(_source(50), seed) for seed in range(10)}) > 5
    splits = [make_splits(_listed(50, 5), seed) for seed in range(10)]
    assert len({split.reward for split in splits}) > 5
    assert len({split.report for split in splits}) == 1


@given(st.integers(3, 300), seeds)
@settings(deadline=None, max_examples=50)
def test_splits_are_blocks_in_name_order(count: int, seed: int) -> None:
    splits = make_splits(_source(count), seed)
    held_out = splits.reward + splits.report
    assert held_out == tuple(range(held_out[0], held_out[0] + len(held_out)))


@given(st.integers(2, 100), st.integers(1, 30), seeds)
@settings(deadline=None, max_examples=50)
def test_the_reward_block_is_cut_from_the_training_list(train: int, val: int, seed: int) -> None:
    splits = make_splits(_listed(train, val), seed)
    listed = sorted(splits.train + splits.reward)
    start = listed.index(splits.reward[0])
    assert tuple(listed[start : start + len(splits.reward)]) == splits.reward


def test_a_list_for_the_reward() -> None:
    source = _listed(5, 2, unused=1)
    listed = {**source.split_names, "train": source.names[1:2], "reward": source.names[2:4]}
    splits = make_splits(replace(source, split_names=listed), 3)
    assert (splits.train, splits.reward, splits.report) == ((1,), (2, 3), (6, 7))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ("0000", "0001"), "val": ("0001",)}, "'0001' in train and val"),
        ({"train": ("0000",), "val": ("0001",), "reward": ("0001",)}, "'0001' in val and reward"),
        ({"train": ("0000", "0001", "0000"), "val": ("0002",)}, "'0000' in train and train"),
    ],
)
def test_a_pair_in_two_splits_is_named(lists: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(DataError, match=f"names: no pair may be listed twice: {message}"):
        make_splits(replace(_source(3), split_names=lists), 0)


def test_order_of_a_list_does_not_matter() -> None:
    source = _listed(30, 3)
    turned = replace(source, split_names={part: names[::-1] for part, names in source.split_names.items()})
    assert make_splits(source, 7) == make_splits(turned, 7)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_pairs(count: int) -> None:
    with pytest.raises(DataError, match=f"names: .* at least 3 image pairs. Got {count}"):
        make_splits(_source(count), 0)


@pytest.mark.parametrize(("train", "val"), [(1, 1), (0, 3), (5, 0)])
def test_too_short_lists(train: int, val: int) -> None:
    with pytest.raises(DataError, match=f"training list needs at least 2 .* Got val {val}, train {train}"):
        make_splits(_listed(train, val), 0)


def test_real_lists(reference_dir: Path) -> None:
    source = PairedFolder(reference_dir / "data" / "roadscene")
    splits = make_splits(source, 0)
    assert (len(splits.train), len(splits.reward), len(splits.report)) == (145, 16, 20)
    assert {source.names[index] for index in splits.report} == set(source.split_names["val"])


@given(st.integers(10, 60), st.integers(1, 60), seeds)
@settings(max_examples=20)
def test_a_limit_chooses_training_pairs_and_leaves_the_rest(count: int, limit: int, seed: int) -> None:
    whole, few = make_splits(_source(count), seed), make_splits(_source(count), seed, limit)
    assert (few.reward, few.report) == (whole.reward, whole.report)
    assert len(few.train) == min(limit, len(whole.train))
    assert set(few.train) <= set(whole.train)
    assert few.train == tuple(sorted(few.train)) == make_splits(_source(count), seed, limit).train
