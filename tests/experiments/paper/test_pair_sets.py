"""Which pairs methods are compared on."""

from pathlib import Path

import numpy as np
import pytest

from experiments.paper.order import Order
from experiments.paper.pair_sets import DEMO_PAIRS, open_set, ordered_sets
from fusion_env.data import write_png
from fusion_env.errors import ConfigError, DataError, MissingRequirementsError


def write_pairs(root: Path, names: list[str], size: tuple[int, int] = (480, 640)) -> None:
    for number, name in enumerate(names):
        write_png(root / "ir" / f"{name}.png", np.full(size, number, np.uint8))
        write_png(root / "vi" / f"{name}.png", np.full((*size, 3), (100 + number, 60, 30), np.uint8))


def test_the_demo_takes_what_is_there(tmp_path: Path) -> None:
    names = [set_.name for set_ in ordered_sets(Order(tmp_path))]
    assert names == ["procedural", "procedural-fog", "procedural-night"]
    with pytest.raises(ConfigError, match="holds none of the folders m3fd"):
        ordered_sets(Order(tmp_path, data_root=tmp_path))
    write_pairs(tmp_path / "msrs", ["00001D", "00002N", "00004N"])
    msrs = ordered_sets(Order(tmp_path, data_root=tmp_path))[-1]
    assert (msrs.name, msrs.published, len(msrs.indices)) == ("msrs", "MSRS", 3)
    assert msrs.parts == {"night": ["00002N", "00004N"]}
    assert len(ordered_sets(Order(tmp_path, data_root=tmp_path, most=1))[-1].indices) == 1


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "msrs", ["00001D", "00002N"], size=(48, 64))
    with pytest.raises(DataError, match=r"faults that change the numbers: .*python -m fusion_env.data verify msrs"):
        open_set("msrs", tmp_path / "msrs")


def test_the_paper_wants_its_sets(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementsError, match=r"M3FD .*TNO .*MSRS .*--data-root"):
        ordered_sets(Order(tmp_path, preset="paper", data_root=tmp_path))
    for name in ("m3fd", "tno", "msrs"):
        write_pairs(tmp_path / name, ["00001"])
    with pytest.raises(DataError, match="m3fd-fusion in .* faults that change the numbers"):
        ordered_sets(Order(tmp_path, preset="paper", data_root=tmp_path))


def test_some_pairs_evenly_spaced_and_the_report_split_of_the_set(tmp_path: Path) -> None:
    names = [f"{number:02d}" for number in range(10)]
    write_pairs(tmp_path, names, size=(48, 64))
    assert open_set(str(tmp_path)).indices == tuple(range(10))
    assert open_set(str(tmp_path), most=3).indices == (0, 3, 6)
    with pytest.raises(ConfigError, match="at least one pair"):
        open_set(str(tmp_path), most=0)
    (tmp_path / "train.txt").write_text("\n".join(names[:6]))
    (tmp_path / "val.txt").write_text("\n".join(names[7:]))
    assert open_set(str(tmp_path)).indices == (7, 8, 9)


def test_procedural_scenes_by_name() -> None:
    fog = open_set("procedural-fog", most=2)
    assert fog.indices == (0, 1)
    assert fog.source.condition == "fog"
    assert len(open_set("procedural").indices) == DEMO_PAIRS
