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
