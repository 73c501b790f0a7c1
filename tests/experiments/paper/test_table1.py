"""Table 1: what is scored is what is written, the arithmetic is that of the raw values, and nothing is done twice."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.evaluate import evaluate
from experiments.paper import table1
from experiments.paper.methods import Method, classical_methods, folder_method
from experiments.paper.pair_sets import PairSet, open_set
from experiments.paper.published import published
from experiments.table1 import main
from fusion_env.data import write_png
from fusion_env.errors import ConfigError, DataError

NAMES = ("00001D", "00002N", "00003N")


@pytest.fixture(scope="module")
def msrs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small pairs that are called like MSRS's, one of them of the day; the size is none of its faults here."""
    root = tmp_path_factory.mktemp("data") / "msrs"
    random = np.random.default_rng(0)
    for name in NAMES:
        coarse = random.integers(0, 256, (2, 12, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
        write_png(root / "ir" / f"{name}.png", coarse[0, :, :, 0])
        write_png(root / "vi" / f"{name}.png", coarse[1])
    return root


@pytest.fixture(scope="module")
def night(msrs: Path) -> PairSet:
    """The same pairs, with a table of those at night."""
    return replace(open_set(str(msrs)), published="MSRS", parts={"night": NAMES[1:], "last": NAMES[2:]})


@pytest.fixture(scope="module")
def folder(night: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    table1.compare(classical_methods(), [night], out, "the command")
    return out


def test_the_table_is_that_of_the_written_images(folder: Path, msrs: Path) -> None:
    fused = {name: folder / "fused" / name / "msrs" for name in ("average", "laplacian")}
    expected = evaluate(fused, table1.METRICS, ir=msrs / "ir", vis=msrs / "vi").images
    written = pd.read_csv(folder / "images.csv").sort_values(["method", "image"], ignore_index=True)
    pd.testing.assert_frame_equal(written.drop(columns="data")[list(expected)], expected, rtol=1e-6)


def test_the_means_are_those_of_the_raw_values(folder: Path) -> None:
    raw = pd.read_csv(folder / "images.csv")
    means = pd.read_csv(folder / "summary.csv").set_index(["data", "method", "metric"])["mean"]
    for method, values in raw.groupby("method"):
        assert means["msrs", method, "ei"] == pytest.approx(values["ei"].mean())
        at_night = values[values["image"].str.endswith("N")]
        assert means["msrs, night", method, "ei"] == pytest.approx(at_night["ei"].mean())
        assert len(at_night) == 2
    page = (folder / "table1.md").read_text()
    assert re.search(rf"\| average \|.*\*{means['msrs', 'average', 'ei']:.2f}\*", page)
    assert "## msrs, last (1 pair)" in page
    assert "nan" not in page  # a single pair has no interval
    assert "the command" in page
    assert (folder / "pictures.png").exists()


def test_published_numbers_stand_beside_ours_and_those_of_others_below(folder: Path) -> None:
    page = (folder / "table1.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| kdfuse"))
    assert f"({published(1)['MSRS', 'kdfuse', 'viff']:.3f})" in line
    assert "kdfuse" not in page.split("## msrs, night")[1].split("## Methods")[0]


def test_nothing_is_fused_twice(folder: Path, night: PairSet) -> None:
    def refuse(of: str, pair: object) -> None:
        raise AssertionError

    table1.compare([replace(method, fuse=refuse) for method in classical_methods()], [night], folder, "again")
    assert "again" in (folder / "table1.md").read_text()


def test_other_methods_need_another_folder(folder: Path, night: PairSet) -> None:
    with pytest.raises(ConfigError, match="Take another --out"):
        table1.compare(classical_methods()[:1], [night], folder, "")


@pytest.fixture
def other(folder: Path) -> Callable[[], Method]:
    return lambda: folder_method("other", folder / "fused" / "average")


def test_a_folder_of_images_is_a_method(other: Callable[[], Method], folder: Path, night: PairSet) -> None:
    pair = night.pair(0)
    scored = table1.score(other().fuse("msrs", pair), pair)
    raw = pd.read_csv(folder / "images.csv")
    row = raw[(raw["image"] == pair.name) & (raw["method"] == "average")].iloc[0]
    assert scored == pytest.approx({name: row[name] for name in table1.METRICS}, rel=1e-6)
    with pytest.raises(DataError, match="no image called"):
        other().fuse("msrs", replace(pair, name="elsewhere"))
    with pytest.raises(DataError, match="one folder of fused images for each set"):
        other().fuse("tno", pair)


def test_the_command(tmp_path: Path, msrs: Path, capsys: pytest.CaptureFixture) -> None:
    more = ["--teachers", "--students", "--threads", "1", "--out", str(tmp_path)]
    assert main(["--data", str(msrs), "--most", "2", *more]) == 0
    assert "## msrs (2 pairs)" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="every set once. Got msrs, msrs"):
        main(["--data", str(msrs), str(msrs), *more])
