"""What people really feed a program: every wrong setting, file and folder gives one clear line before any work."""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fusion_env.action import ACTION_SIZE
from fusion_env.config import PRESETS, DistillConfig, preset
from fusion_env.data import PairedFolder, read_visible
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, DataError, SnapshotError, UnknownNameError
from fusion_env.snapshot import read_generator, write_generator
from fusion_env.task import build_task
from fusion_env.teachers import LaplacianTeacher
from student.weights import WeightsError, load_state, save_state

FIELDS = {item.name: item for item in dataclasses.fields(DistillConfig)}


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**64, -1, 0]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["\0", "procedural", "random", "vif", "cuda:99", "\udcff", "x" * 5000]),
    st.binary(max_size=4),
    st.builds(_Unprintable),
    st.just(np.float32(0.5)),
    st.just(torch.zeros(2)),
)
_values = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=3),
    st.tuples(_scalars),
    st.dictionaries(st.text(max_size=3), _scalars, max_size=2),
    st.sets(st.integers(), max_size=2),
)
_names = st.one_of(st.sampled_from(sorted(FIELDS)), st.text(max_size=12))


def _valid(item: dataclasses.Field) -> st.SearchStrategy[Any]:
    """Values in the range of a field; some combinations still contradict each other."""
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return st.sampled_from(choices)
    default = st.just(item.default)
    if isinstance(item.default, bool):
        return st.booleans()
    if item.type in (int, int | None):
        return default | st.integers(low if low is not None else 0, high if high is not None else 10**12)
    if item.type is float:
        return default | st.floats(low, high, allow_nan=False, allow_infinity=False)
    return default


@given(st.dictionaries(_names, _values, max_size=4))
@example({"learning_rate": 10**400})
@example({"minmax_bounds": [10**400] * 10, "normalisation": "minmax"})
@example({"batch_size": torch.zeros(2)})
@example({"reward": ["gap"]})
@settings(deadline=None, max_examples=150)
def test_any_settings_make_a_configuration_or_a_config_error(values: dict[str, Any]) -> None:
    unknown = [name for name in values if name not in FIELDS]
    try:
        config = DistillConfig.from_dict(values)
    except (UnknownNameError, ConfigError) as caught:
        error = caught
    else:
        assert not unknown
        assert DistillConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert len({config, config.replace()}) == 1
        return
    assert isinstance(error, UnknownNameError) == bool(unknown)
    assert any((repr(name) if unknown else name) in str(error) for name in unknown or values)
    assert unknown or len(str(error)) < 1000


@given(st.fixed_dictionaries({}, optional={name: _valid(item) for name, item in FIELDS.items()}))
@settings(deadline=None, max_examples=150)
def test_values_in_range_are_kept_or_contradict_each_other(values: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        config = DistillConfig.from_dict(values)
        assert all(getattr(config, name) == value for name, value in values.items())
        assert DistillConfig.from_dict(config.to_dict()) == config


@given(_names, _values)
@settings(deadline=None, max_examples=100)
def test_overrides_of_presets(name: str, value: Any) -> None:
    for known in PRESETS.names():
        with contextlib.suppress(ConfigError, UnknownNameError):
            assert preset(known, **{name: value}).to_dict().keys() == FIELDS.keys()


@pytest.mark.parametrize("name", [name for name, item in FIELDS.items() if item.metadata["low"] is not None])
def test_both_ends_of_every_range_are_checked(name: str) -> None:
    low, high = FIELDS[name].metadata["low"], FIELDS[name].metadata["high"]
    below = low - 1
    above = () if high is None else (high + max(1, high),)  # 1e30 + 1 is 1e30
    for value in (below, *above):
        with pytest.raises(ConfigError, match=f"^{name} must be (at least|in) {low}.*Got {re.escape(str(value))}"):
            DistillConfig.from_dict({name: value})


@pytest.mark.parametrize(
    "value", [pytest.param(10**5000, id="huge"), pytest.param(_Unprintable(), id="unprintable"), "x" * 9999, [1] * 9999]
)
def test_values_that_cannot_be_shown_make_short_messages(value: object) -> None:
    for name in ("data_seed", "learning_rate", "reward", "guidance", "score_metrics", "minmax_bounds"):
        with pytest.raises(ConfigError, match=name) as caught:
            DistillConfig.from_dict({name: value})
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("values", [None, "demo", 3, [], [("rounds", 3)], {"rounds"}])
def test_what_is_no_mapping(values: object) -> None:
    with pytest.raises(ConfigError, match="must be a mapping from setting to value"):
        DistillConfig.from_dict(values)


@pytest.mark.parametrize("key", [1, None, ("rounds",), pytest.param(10**5000, id="huge")])
def test_names_that_are_no_strings(key: object) -> None:
    with pytest.raises(ConfigError, match="name of a setting must be a string"):
        DistillConfig.from_dict({key: 1})


@pytest.mark.parametrize("name", [None, [], {}, 3, "", "Demo"])
def test_presets_that_do_not_exist(name: object) -> None:
    with pytest.raises(UnknownNameError, match="unknown preset"):
        preset(name)


@pytest.mark.parametrize("changes", [{"score_size": 65}, {"crop_size": 65}, {"scene_width": 64, "score_size": 80}])
def test_crops_larger_than_a_scene_are_named(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="(crop|score)_size=.* is larger than a procedural scene: set scene_height"):
        build_task(preset("tiny", **changes))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"bit_generator": "PCG64", "state": {}}', "x" * 999])
def test_random_generators_of_snapshots(text: str) -> None:
    with pytest.raises(SnapshotError, match="holds no random generator"):
        read_generator(text)
    generator = np.random.default_rng(3)
    assert read_generator(write_generator(generator)).integers(2**62) == generator.integers(2**62)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Six pairs of 64 x 80 pixels."""
    rng = np.random.default_rng(0)
    for side in ("ir", "vi"):
        (tmp_path / "data" / side).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / side / f"{number}.png")
    return tmp_path / "data"


def test_everything_wrong_with_the_pixels_is_said_before_training(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_training(*args: object) -> None:
        raise AssertionError("the teacher was run")

    monkeypatch.setattr(LaplacianTeacher, "forward", no_training)
    bad = [pairs / "ir" / "1.png", pairs / "vi" / "3.png", pairs / "vi" / "5.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-100])
    for _ in range(2):  # a failed check is not remembered as a good one
        with pytest.raises(DataError) as caught:
            FusionDistillEnv(preset="tiny", data=str(pairs), cache_dir=str(tmp_path / "cache"))
        assert "(3 problems)" in str(caught.value)
        assert all(f"{path}: cannot be read" in str(caught.value) for path in bad)
        assert "\n" not in str(caught.value)


def test_a_folder_of_odd_files_trains(pairs: Path, tmp_path: Path) -> None:
    for side, mark in (("ir", "IR_"), ("vi", "VIS_")):
        for number, file in enumerate(sorted((pairs / side).iterdir())):
            picture = Image.open(file)
            if number == 1:
                picture = picture.convert("P")
            if number == 2:
                picture.putalpha(30)
            file.unlink()
            picture.save(file.with_name(f"{mark}\udcff {number}.jpg"), format="PNG")
        (pairs / side / "Thumbs.db").write_bytes(b"\0")
        (pairs / side / ".hidden").write_bytes(b"\0")
        (pairs / side / "nested").mkdir()
    env = FusionDistillEnv(preset="tiny", data=str(pairs), rounds=1, stage0_rounds=1, cache_dir=str(tmp_path / "cache"))
    env.reset(seed=0)
    *_, truncated, info = env.step([0.0] * ACTION_SIZE)
    assert truncated
    assert np.isfinite(list(info["report"]["student"].values())).all()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user whose access rights count; root may read everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            for path in (Path(folder), *(Path(folder) / name for name in ("ir", "vi", "data"))):
                if path.exists():
                    path.chmod(0o700)
    finally:
        if is_root:
            os.seteuid(0)


def test_unreadable_files(unprivileged: Path) -> None:
    for side in ("ir", "vi"):
        (unprivileged / side).mkdir()
        for name in ("a", "b"):
            Image.new("L", (8, 8)).save(unprivileged / side / f"{name}.png")
    for file in ("ir/a.png", "vi/b.png"):
        (unprivileged / file).chmod(0)
    with pytest.raises(DataError) as caught:
        PairedFolder(unprivileged)
    assert "(2 problems)" in str(caught.value)
    assert f"{unprivileged}/ir/a.png: cannot be read: Permission denied" in str(caught.value)
    assert f"{unprivileged}/vi/b.png: cannot be read: Permission denied" in str(caught.value)
    with pytest.raises(DataError, match=r"a\.png: cannot be read: Permission denied$"):
        read_visible(unprivileged / "ir" / "a.png")
    save_state({"a": torch.zeros(1)}, unprivileged / "w")
    (unprivileged / "w").chmod(0)
    with pytest.raises(WeightsError, match=r"w cannot be opened: Permission denied"):
        load_state(unprivileged / "w")


@pytest.mark.parametrize("mode", [0, 0o400, 0o100])
def test_unreadable_folders(unprivileged: Path, mode: int) -> None:
    for folder in (unprivileged / "data" / "ir", unprivileged / "data" / "vi"):
        folder.mkdir(parents=True)
        Image.new("L", (8, 8)).save(folder / "a.png")
    (unprivileged / "data" / "vi").chmod(mode)
    with pytest.raises(DataError, match="Permission denied"):
        PairedFolder(unprivileged / "data")
    (unprivileged / "data" / "vi").chmod(0o700)
    (unprivileged / "data").chmod(mode)
    with pytest.raises(DataError) as caught:
        PairedFolder(unprivileged / "data")
    assert "\n" not in str(caught.value)


def test_a_neighbour_that_cannot_be_listed_hides_no_error(unprivileged: Path) -> None:
    (unprivileged / "data" / "secret").mkdir(parents=True, mode=0)
    with pytest.raises(DataError, match="data: no folder for infrared images"):
        PairedFolder(unprivileged / "data")
