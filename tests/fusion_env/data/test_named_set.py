"""Published data sets: every layout with tiny pictures, and with the real pairs at hand."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion_env.config import DistillConfig
from fusion_env.data import data_sets, make_splits, missing_source, named, open_source
from fusion_env.data.layouts import read_lines
from fusion_env.data.sources import SourceSettings, absolute_data
from fusion_env.errors import ConfigError, DataError, MissingRequirementsError, UnknownNameError
from fusion_env.identity import absolute_paths, differences
from fusion_env.task import open_pairs

SETTINGS = SourceSettings(scenes=3, scene_height=64, scene_width=80, seed=0, small_images="error", minimum_size=1)


def picture(path: Path, colour: bool = False, size: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    Image.fromarray(rng.integers(0, 256, (*size, 3) if colour else size).astype(np.uint8)).save(path)
    return path


def pairs(ir: Path, vis: Path, names: list[str]) -> None:
    for name in names:
        picture(ir / name)
        picture(vis / name, colour=True)


def m3fd(root: Path) -> Path:
    train = read_lines("m3fd_train.txt")
    rest = sorted({f"{number:05d}" for number in range(4200)} - set(train))
    detection = root / "M3FD_Detection"
    pairs(detection / "Ir", detection / "Vis", [f"{name}.png" for name in (*train[:3], *rest[:2])])
    pairs(root / "M3FD_Fusion" / "Ir", root / "M3FD_Fusion" / "Vis", ["00000.png", "00719.png"])
    (detection / "Annotation").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>"
    for file in (detection / "Ir").iterdir():
        text = f"<annotation><object><name>Car</name>{box}</object></annotation>"
        (detection / "Annotation" / f"{file.stem}.xml").write_text(text)
    return root


def msrs(root: Path) -> Path:
    for part, names in (("train", ["00001D", "00002N"]), ("test", ["00004N", "00537D"])):
        pairs(root / part / "ir", root / part / "vi", [f"{name}.png" for name in names])
        for name in names:
            mask = root / part / "Segmentation_labels" / f"{name}.png"
            mask.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((6, 8), 2, np.uint8)).save(mask)
    return root


def across(root: Path, names: tuple[str, str], suffix: str) -> Path:
    """Lay out as LLVIP: sides outside, parts inside."""
    for part, name in zip(("train", "test"), names, strict=True):
        pairs(root / "infrared" / part, root / "visible" / part, [f"{name}{suffix}"])
    return root


def test_m3fd_as_published(tmp_path: Path) -> None:
    source = named("m3fd", m3fd(tmp_path))
    assert len(source) == 7
    assert source.name == "m3fd (7 pairs, 4500 are published)"
    assert {part: len(names) for part, names in source.split_names.items()} == {"train": 3, "reward": 2, "val": 2}
    assert source.split_names["val"] == ("fusion_00000", "fusion_00719")
    (box,) = source.boxes(source.names.index(source.split_names["train"][0]))
    assert (box.label, box.left, box.top, box.right, box.bottom) == ("Car", 1, 2, 5, 6)
    assert source.classes.index("Car") == 1
    with pytest.raises(DataError, match="no file of labels for 'fusion_00000'"):
        source.boxes(source.names.index("fusion_00000"))


def test_m3fd_detection_alone_holds_its_own_test_pairs(tmp_path: Path) -> None:
    for root in (m3fd(tmp_path), tmp_path / "M3FD_Detection"):
        splits = named("m3fd-detection", root).split_names
        assert {part: len(names) for part, names in splits.items()} == {"train": 3, "val": 2}


def test_the_list_of_m3fd() -> None:
    train = {int(name) for name in read_lines("m3fd_train.txt")}
    blocks = np.random.default_rng(20250902).permutation(70)[:49]
    assert train == {int(block) * 60 + step for block in blocks for step in range(60)}
    assert len(train) == 2940 == 0.7 * 4200


def test_a_part_that_is_missing_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    shutil.rmtree(m3fd(tmp_path) / "M3FD_Fusion")
    with pytest.raises(DataError, match="no fusion part: looked for .*m3fd_fusion.*data='m3fd-detection' is what is"):
        named("m3fd", tmp_path)


def test_msrs_by_day_and_by_night(tmp_path: Path) -> None:
    source = named("msrs", msrs(tmp_path))
    assert source.split_names == {
        "train": ("train_00001D", "train_00002N"),
        "val": ("test_00004N", "test_00537D"),
    }
    assert np.array_equal(source.mask(0), np.full((6, 8), 2))
    assert named("msrs-night", tmp_path).names == ("train_00002N", "test_00004N")
    assert named("msrs-test-night", tmp_path).names == ("00004N",)
    assert named("msrs-test-day", tmp_path).names == ("00537D",)


@pytest.mark.parametrize(
    ("name", "names", "suffix"), [("llvip", ("010001", "190001"), ".jpg"), ("msrs", ("00001D", "00004N"), ".png")]
)
def test_sides_outside_parts_inside(tmp_path: Path, name: str, names: tuple[str, str], suffix: str) -> None:
    source = named(name, across(tmp_path, names, suffix))
    assert source.split_names == {"train": (f"train_{names[0]}",), "val": (f"test_{names[1]}",)}


def test_fmb_within_the_folder_of_its_archive(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = tmp_path / "outer" / "FMB" / part
        pairs(folder / "Infrared", folder / "Visible", ["00001.png"])
        picture(folder / "color" / "00001.png", colour=True)
    assert named("fmb", tmp_path).names == ("train_00001", "test_00001")


def test_roadscene_takes_the_registered_folders(tmp_path: Path) -> None:
    pairs(tmp_path / "cropinfrared", tmp_path / "crop_LR_visible", ["FLIR_00006.jpg"])
    picture(tmp_path / "infrared" / "FLIR_00006.jpg", size=(12, 12))
    picture(tmp_path / "crop_HR_visible" / "FLIR_00006.jpg", colour=True, size=(12, 12))
    source = named("roadscene", tmp_path)
    assert (source.names, source.sizes) == (("FLIR_00006",), ((6, 8),))


@pytest.mark.parametrize("outer", ["TNO_Image_Fusion_Dataset/Triclobs_images", "."])
def test_tno_by_its_paths(tmp_path: Path, outer: str) -> None:
    scene = tmp_path / outer / "Kaptein_1123"
    for name in ("Kaptein_1123_IR.bmp", "Kaptein_1123_Vis.bmp", "Kaptein_1123_II.bmp"):
        picture(scene / name)
    source = named("tno", tmp_path)
    assert source.names == ("Kaptein_1123",)
    (scene / "Kaptein_1123_IR.bmp").unlink()
    with pytest.raises(DataError, match="one of the two images of Kaptein_1123 is missing"):
        named("tno", tmp_path)


@pytest.mark.parametrize("name", [name for name in data_sets.names() if "night" not in name and "day" not in name])
def test_plain_folders_for_every_name(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    pairs(tmp_path / "ir", tmp_path / "vi", ["00001.png", "00002.png", "00003.png", "00004.png"])
    source = named(name, tmp_path)
    assert source.names == ("00001", "00002", "00003", "00004")
    assert caplog.records, "nothing is silent"
    (tmp_path / "train.txt").write_text("00001\n00002")
    (tmp_path / "val.txt").write_text("00004")
    assert named(name, tmp_path).split_names == {"train": ("00001", "00002"), "val": ("00004",)}


def test_nothing_of_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown data set 'm3df'. Did you mean 'm3fd'"):
        named("m3df", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"nothing of m3fd: .*nor m3fd_detection/ and m3fd_fusion/. It holds a/, b/"):
        named("m3fd", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        named("m3fd", tmp_path / "nowhere")


def test_by_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("msrs", SourceSettings(**{**vars(SETTINGS), "root": str(msrs(tmp_path / "MSRS"))}))
    assert len(make_splits(source, 0).report) == 2
    missing = {**vars(SETTINGS), "root": str(tmp_path / "nowhere")}
    with pytest.raises(MissingRequirementsError, match="MSRS .* is not on disk; set data=DIR .* data_root .*nowhere"):
        open_source("msrs", SourceSettings(**missing))
    assert missing_source("msrs", str(tmp_path)) is None
    for other in ("procedural", str(tmp_path)):
        with pytest.raises(ConfigError, match="data_root=.* is where a published data set lies"):
            open_source(other, SourceSettings(**missing))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "msrs").mkdir()
    assert absolute_data("msrs", None) == ("msrs", str(tmp_path / "msrs"))
    assert absolute_data("msrs", "MSRS") == ("msrs", str(tmp_path / "MSRS"))
    assert absolute_data("procedural", None) == ("procedural", None)
    config = DistillConfig(data="msrs", data_root="MSRS", small_images="reflect")
    assert open_pairs(config).names == source.names
    absolute = absolute_paths(config)
    assert absolute.data_root == str(tmp_path / "MSRS")
    same = {"data": source.fingerprint()}
    assert differences((config, same), (config.replace(data_root="elsewhere"), same)) == ""


@pytest.mark.parametrize(
    ("name", "folders", "names"),
    [
        ("m3fd-detection", ("M3FD_Detection/Ir", "M3FD_Detection/Vis"), ("00000.png", "04053.png")),
        ("msrs-test", ("test/ir", "test/vi"), ("00004N.png", "00537D.png")),
        ("roadscene", ("cropinfrared", "crop_LR_visible"), ("FLIR_00006.jpg",)),
    ],
)
def test_real_pairs_as_published(
    reference_dir: Path, tmp_path: Path, name: str, folders: tuple[str, str], names: tuple[str, ...]
) -> None:
    stored = reference_dir / "data" / name.partition("-")[0]
    for side, folder in zip(("ir", "vi"), folders, strict=True):
        (tmp_path / folder).mkdir(parents=True)
        for file in names:
            shutil.copy(stored / side / file, tmp_path / folder)
    source = named(name, tmp_path)
    assert source.names == tuple(Path(file).stem for file in names)
    assert source.data_set.size in (None, source.sizes[0])
