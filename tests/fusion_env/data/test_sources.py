from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fusion_env.data import (
    ImagePair,
    PairedFolder,
    PairSource,
    ProceduralScenes,
    SourceSettings,
    check_source,
    load_pair,
    missing_source,
    open_source,
    sources,
    write_png,
)
from fusion_env.errors import DataError, MissingRequirementsError

SETTINGS = SourceSettings(scenes=3, scene_height=64, scene_width=80, seed=7, small_images="reflect", minimum_size=20)


@dataclass
class Grey(PairSource):
    """The least that a source made in Python has."""

    names: tuple[str, ...] = ("a", "b")
    sizes: tuple[tuple[int, int], ...] = ((4, 5), (4, 5))
    name = "grey"

    def load(self, index: int) -> ImagePair:
        levels = torch.full((3, 4, 5), index, dtype=torch.uint8)
        return ImagePair(self.names[index], levels[:1], levels)

    def fingerprint(self) -> str:
        return "grey"


def test_defaults_of_a_source() -> None:
    source = Grey()
    assert len(source) == 2
    assert source.split_names is None
    source.verify()


def test_procedural_scenes() -> None:
    assert open_source("procedural", SETTINGS) == ProceduralScenes(3, 64, 80, 7)


def test_a_folder(tmp_path: Path) -> None:
    for side, shape in (("ir", (10, 30)), ("vi", (10, 30, 3))):
        (tmp_path / side).mkdir()
        write_png(tmp_path / side / "a.png", torch.zeros(shape, dtype=torch.uint8).numpy())
    source = open_source(str(tmp_path), SETTINGS)
    assert isinstance(source, PairedFolder)
    assert source.sizes == ((20, 30),)
    assert missing_source(str(tmp_path)) is None
    with pytest.raises(DataError, match="no such folder"):
        open_source(str(tmp_path / "nowhere"), SETTINGS)


def test_a_published_data_set_is_a_folder_of_its_name_or_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"m3fd", "msrs", "roadscene", "tno"} < set(sources.names())
    assert missing_source("tno") == "TNO (published at figshare, DOI 10.6084/m9.figshare.1008029)"
    with pytest.raises(MissingRequirementsError, match="data='tno': TNO .* is not on disk; set data=DIR"):
        open_source("tno", SETTINGS)
    (tmp_path / "tno").mkdir()
    assert missing_source("tno") is None
    with pytest.raises(DataError, match="no folder for infrared images"):
        open_source("tno", SETTINGS)


def test_a_source_of_ones_own() -> None:
    sources.register("grey of a test")(lambda settings: Grey())
    assert open_source("grey of a test", SETTINGS).name == "grey"


def test_a_source_is_what_a_builder_must_return() -> None:
    sources.register("nothing of a test")(lambda settings: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="'nothing of a test': .* must return a fusion_env.data.PairSource. Got NoneT"):
        open_source("nothing of a test", SETTINGS)


def test_a_misspelt_name_or_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs").mkdir()
    with pytest.raises(DataError, match=r"no such folder.*Did you mean .*pairs\?.*Did you mean '.*Known: .*tno"):
        open_source("pair", SETTINGS)
    with pytest.raises(DataError, match="no such folder") as error:
        open_source("./nowhere/m3df", SETTINGS)
    assert "m3fd" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name of a Grey must be a text"),
        ({"names": ("a", "a")}, "'grey': 2 pairs are called 'a'"),
        ({"names": ("a", 1)}, "pair 1 must be a text"),
        ({"names": ("a",)}, "1 names and 2 sizes"),
        ({"sizes": ((4, 5), (4,))}, r"pair 'b' has the size \(4,\)"),
    ],
)
def test_what_a_source_says_is_checked(changes: dict, message: str) -> None:
    source = Grey()
    vars(source).update(changes)
    with pytest.raises(DataError, match=message):
        check_source(source)


def test_a_source_without_a_name() -> None:
    class Nameless(PairSource):
        names, sizes = ("a",), ((4, 5),)
        load, fingerprint = Grey.load, Grey.fingerprint

    with pytest.raises(DataError, match="Nameless lacks name: a PairSource has name, names and sizes"):
        check_source(Nameless())


def test_what_is_loaded_is_checked() -> None:
    source = Grey()
    assert load_pair(source, 1).name == "b"
    source.sizes = ((4, 5), (5, 4))
    with pytest.raises(DataError, match=r"pair 'b' of 'grey': sizes says \[5, 4\]"):
        load_pair(source, 1)
    pair = source.load(0)
    vars(source)["load"] = lambda index: pair
    with pytest.raises(DataError, match="pair 'b' of 'grey': load\\(1\\) returns a pair called 'a'"):
        load_pair(source, 1)
    vars(source)["load"] = lambda index: (pair.ir, pair.vis)
    with pytest.raises(DataError, match=r"pair 'a' of 'grey': load must return a fusion_env.data.ImagePair. Got tuple"):
        load_pair(source, 0)
