import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_env.data.folder import PairedFolder
from fusion_env.data.images import read_infrared, read_visible
from fusion_env.data.pairs import ImagePair, PairSource
from fusion_env.errors import ConfigError, DataError


def _write(path: Path, height: int = 24, width: int = 32, seed: int = 0, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = path.parent.name.casefold().startswith("v")
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3) if colour else (height, width))
    Image.fromarray(levels.astype(np.uint8)).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three good pairs of different sizes."""
    folder = tmp_path / "pictures"
    for seed, (name, size) in enumerate({"b": (24, 32), "a": (40, 30), "c.1": (64, 64)}.items()):
        _write(folder / "ir" / f"{name}.png", *size, seed=seed)
        _write(folder / "vi" / f"{name}.png", *size, seed=seed + 10)
    return folder


def _error(*args: object, **kwargs: object) -> str:
    with pytest.raises(DataError) as caught:
        PairedFolder(*args, **kwargs)
    return str(caught.value)


def test_pairs(root: Path) -> None:
    source = PairedFolder(root)
    assert isinstance(source, PairSource)
    assert source.name == "pictures"
    assert source.names == ("a", "b", "c.1")
    assert source.sizes == ((40, 30), (24, 32), (64, 64))
    assert len(source) == 3
    assert source.split_names is None
    for index, name in enumerate(source.names):
        pair = source.load(index)
        assert pair.name == name
        assert np.array_equal(pair.ir[0], read_infrared(root / "ir" / f"{name}.png"))
        assert np.array_equal(pair.vis.permute(1, 2, 0), read_visible(root / "vi" / f"{name}.png"))


def test_load_takes_numpy_integers_and_no_others(root: Path) -> None:
    source = PairedFolder(root)
    assert source.load(np.int64(1)).name == "b"
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"0 to 2. Got {index}"):
            source.load(index)
    with pytest.raises(TypeError):
        source.load(1.0)


@pytest.mark.parametrize(("ir", "vis"), [("ir", "vis"), ("infrared", "visible"), ("Ir", "Vis"), ("IR", "VI")])
def test_folder_names(tmp_path: Path, ir: str, vis: str) -> None:
    _write(tmp_path / ir / "x.png")
    _write(tmp_path / vis / "x.jpg")
    assert PairedFolder(str(tmp_path)).names == ("x",)


def test_ignored_entries(root: Path) -> None:
    (root / "ir" / ".DS_Store").write_bytes(b"x")
    (root / "ir" / "Thumbs.db").write_bytes(b"x")
    (root / "vi" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (root / "vi" / "old").mkdir()
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert len(PairedFolder(root)) == 3


def test_extension_may_differ(root: Path) -> None:
    (root / "vi" / "a.png").unlink()
    _write(root / "vi" / "a.jpg", 40, 30)
    (root / "ir" / "b.png").rename(root / "ir" / "b")
    assert PairedFolder(root).names == ("a", "b", "c.1")


def test_all_problems_come_at_once(root: Path) -> None:
    _write(root / "ir" / "lonely.png")
    _write(root / "vi" / "alone.png")
    _write(root / "vi" / "b.jpg", 24, 32)
    _write(root / "ir" / "Case.png")
    _write(root / "vi" / "case.png")
    _write(root / "ir" / "size.png", 24, 32)
    _write(root / "vi" / "size.png", 32, 24)
    (root / "ir" / "c.1.png").write_text("no image")
    (root / "ir" / "notes.docx").write_text("no image")
    (root / "train.txt").write_text("a\nmissing\n")
    text = _error(root)
    assert text.startswith(f"cannot use the image pairs in {root} (10 problems): ")
    assert "\n" not in text
    for problem in (
        "ir/lonely.png has no partner in vi/",
        "vi/alone.png has no partner in ir/",
        "vi/b.jpg and vi/b.png have the same stem",
        "ir/Case.png has no partner in vi/ (case.png differs in case)",
        "vi/case.png has no partner in ir/ (Case.png differs in case)",
        "size: infrared is 24 x 32 (height x width), visible 32 x 24 (height x width)",
        f"{root / 'ir' / 'c.1.png'}: not an image",
        "ir/notes.docx has no partner in vi/",
        "train.txt stands alone",
        "train.txt lists 'missing', which is no pair",
    ):
        assert problem in text


def test_twenty_problems_are_listed_and_the_rest_counted(root: Path) -> None:
    for number in range(25):
        _write(root / "ir" / f"n{number:02}.png")
    text = _error(root)
    assert "(25 problems)" in text
    assert "n19" in text
    assert "n20" not in text
    assert text.endswith("; and 5 more")


def test_empty_folders(tmp_path: Path) -> None:
    for side in ("ir", "vi"):
        (tmp_path / side).mkdir()
    assert "ir/ and vi/ hold no images" in _error(tmp_path)
    _write(tmp_path / "ir" / "a.png")
    assert "ir/a.png has no partner in vi/" in _error(tmp_path)


def test_missing_folder(root: Path) -> None:
    assert f"Did you mean {root}?" in _error(root.parent / "picturs")
    assert f"({root} exists" in _error(root / "no" / "way")
    assert "is a file" in _error(root / "ir" / "a.png")


def test_folder_without_sides_names_the_one_meant(root: Path) -> None:
    for near in (root.parent, root / "ir", root / "vi"):
        assert f"Did you mean {root}?" in _error(near)
    (root / "vi").rename(root / "other")
    assert _error(root).endswith("no folder for visible images (one of vi/, vis/, visible/).")


def test_two_folders_for_one_side(root: Path) -> None:
    (root / "visible").mkdir()
    assert "several folders for visible images (vi, visible)" in _error(root)


def test_small_images_are_all_listed(root: Path) -> None:
    text = _error(root, minimum_size=33)
    assert "a: 40 x 30 (height x width) is smaller than a crop of 33 (small_images='reflect' enlarges it)" in text
    assert "b: 24 x 32 (height x width) is smaller than a crop of 33 (small_images='reflect' enlarges it)" in text
    assert "c.1" not in text
    assert len(PairedFolder(root, minimum_size=24)) == 3


def test_small_images_are_reflected(root: Path) -> None:
    source = PairedFolder(root, "reflect", 60)
    assert source.sizes == ((60, 60), (60, 60), (64, 64))
    pair, original = source.load(1), PairedFolder(root).load(1)
    assert pair.ir.shape == (1, 60, 60)
    assert torch.equal(pair.vis[:, :24, :32], original.vis)
    # rows 24, 25, ... repeat rows 22, 21, ... down to row 0, then turn again
    rows = [*range(24), *range(22, -1, -1), *range(1, 14)]
    columns = [*range(32), *range(30, 2, -1)]
    assert torch.equal(pair.vis, original.vis[:, rows][:, :, columns])
    assert torch.equal(pair.ir, original.ir[:, rows][:, :, columns])


def test_one_pixel_can_be_reflected(tmp_path: Path) -> None:
    for side in ("ir", "vi"):
        _write(tmp_path / side / "a.png", 1, 1)
    assert PairedFolder(tmp_path, "reflect", 3).load(0).ir.unique().numel() == 1


@pytest.mark.parametrize("options", [{"small_images": "pad"}, {"minimum_size": 0}])
def test_settings_out_of_range(root: Path, options: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be .* Got"):
        PairedFolder(root, **options)


def test_exif_rotation_counts_for_sizes(root: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    _write(root / "vi" / "a.jpg", 30, 40, exif=exif)
    (root / "vi" / "a.png").unlink()
    source = PairedFolder(root)
    assert source.sizes[0] == (40, 30)
    assert source.load(0).vis.shape == (3, 40, 30)


def test_corrupt_pixels_pass_the_headers_but_not_verify(root: Path) -> None:
    bad = [root / "ir" / "a.png", root / "vi" / "a.png", root / "vi" / "c.1.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-200])
    source = PairedFolder(root)
    shown: list[str] = []

    def _progress(items: range, title: str) -> range:
        shown.append(f"{title}: {len(items)}")
        return items

    with pytest.raises(DataError) as caught:
        source.verify(_progress)
    assert "(3 problems)" in str(caught.value)
    assert all(str(path) in str(caught.value) for path in bad)
    assert shown == ["verifying pictures: 3"]
    with pytest.raises(DataError, match=r"ir/a\.png"):
        source.load(0)
    assert source.load(1).name == "b"


def test_good_folder_verifies(root: Path) -> None:
    PairedFolder(root).verify()


def test_a_file_that_changed_its_size_is_noticed(root: Path) -> None:
    source = PairedFolder(root)
    _write(root / "vi" / "b.png", 32, 24)
    with pytest.raises(DataError, match=r"b\.png: 32 x 24 pixels, but its header said 24 x 32"):
        source.load(1)


def test_split_lists(root: Path) -> None:
    (root / "train.txt").write_text("# training\n c.1.png \r\n\n a\n", encoding="utf-8-sig")
    (root / "val.txt").write_text("b.jpg")
    assert PairedFolder(root).split_names == {"train": ("c.1", "a"), "val": ("b",)}


@pytest.mark.parametrize(
    ("train", "val", "problem"),
    [
        ("a\nx\ny.png", "b", "train.txt lists 'x', which is no pair"),
        ("a\nx\ny.png", "b", "train.txt lists 'y.png', which is no pair"),
        ("a\na.png", "b", "train.txt lists 'a' 2 times"),
        ("a\nb", "b", "b is listed in train.txt and in val.txt"),
        ("a", "# nobody\n", "val.txt lists nothing"),
    ],
)
def test_wrong_split_lists(root: Path, train: str, val: str, problem: str) -> None:
    (root / "train.txt").write_text(train)
    (root / "val.txt").write_text(val)
    assert problem in _error(root)


def test_split_lists_that_are_far_too_large(root: Path) -> None:
    (root / "val.txt").write_text("b")
    (root / "train.txt").write_text("x" * 100_000)
    text = _error(root)
    assert f"train.txt lists '{'x' * 100}...', which is no pair" in text
    assert len(text) < 1000
    with (root / "train.txt").open("wb") as file:
        file.truncate(10**10)  # takes no room on the disk
    began = time.monotonic()
    assert "train.txt is larger than 16 MiB, which is no list of names" in _error(root)
    assert time.monotonic() - began < 5


def test_split_list_that_is_no_text(root: Path) -> None:
    (root / "train.txt").write_text("a")
    (root / "val.txt").write_bytes(b"\xff\xfe\xff")
    assert "val.txt cannot be read as UTF-8" in _error(root)


def _rename(root: Path) -> None:
    for side in ("ir", "vi"):
        (root / side / "a.png").rename(root / side / "z.png")


def _repaint(root: Path) -> None:
    _write(root / "vi" / "a.png", 40, 30, seed=99)


def _append(root: Path) -> None:
    with (root / "ir" / "a.png").open("ab") as stream:
        stream.write(b"\0")


def _list(root: Path) -> None:
    (root / "train.txt").write_text("a\nb")
    (root / "val.txt").write_text("c.1")


@pytest.mark.parametrize("change", [_rename, _repaint, _append, _list])
def test_fingerprint_follows_the_content(root: Path, change: Callable[[Path], None]) -> None:
    before = PairedFolder(root).fingerprint()
    assert PairedFolder(root).fingerprint() == before
    change(root)
    assert PairedFolder(root).fingerprint() != before


def test_fingerprint_ignores_place_and_time(root: Path) -> None:
    before = PairedFolder(root).fingerprint()
    moved = root.rename(root.with_name("moved"))
    os.utime(moved / "ir" / "a.png", (0, 0))
    assert PairedFolder(moved).fingerprint() == before
    assert PairedFolder(moved, minimum_size=10).fingerprint() == before
    assert PairedFolder(moved, "reflect", 50).fingerprint() != before


@pytest.mark.parametrize(("length", "position"), [(100_000, 65_536), (100_000, 99_999), (200_000, 100_000)])
def test_fingerprint_covers_the_whole_of_large_files(root: Path, length: int, position: int) -> None:
    path = root / "vi" / "a.png"
    data = bytearray(path.read_bytes().ljust(length, b"\0"))  # what follows the last chunk is not part of a PNG picture
    path.write_bytes(data)
    before = PairedFolder(root).fingerprint()
    data[position] = 1
    path.write_bytes(data)
    assert PairedFolder(root).fingerprint() != before


@pytest.mark.parametrize(("name", "count"), [("mini", 12), ("tno", 20), ("roadscene", 181), ("msrs", 20), ("m3fd", 14)])
def test_real_data(reference_dir: Path, name: str, count: int) -> None:
    source = PairedFolder(reference_dir / "data" / name)
    assert len(source) == count
    assert (source.split_names is not None) == (name == "roadscene")
    pair = source.load(count - 1)
    assert tuple(pair.ir.shape[1:]) == tuple(pair.vis.shape[1:]) == source.sizes[-1]


def test_roadscene_lists_and_lowest_images(reference_dir: Path) -> None:
    folder = reference_dir / "data" / "roadscene"
    lists = PairedFolder(folder).split_names
    assert {part: len(names) for part, names in lists.items()} == {"train": 161, "val": 20}
    text = _error(folder, minimum_size=192)
    assert "161 x " in text
    assert min(min(size) for size in PairedFolder(folder, "reflect", 192).sizes) == 192


@pytest.mark.parametrize(
    ("ir", "vis", "message"),
    [
        (torch.zeros(1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8), "ir must be a uint8 tensor"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, 3, dtype=torch.uint8), "vis must be"),
        (torch.zeros(1, 0, 4, dtype=torch.uint8), torch.zeros(3, 0, 4, dtype=torch.uint8), "ir must be"),
        (torch.zeros(1, 4, 5, dtype=torch.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8), "one size"),
    ],
)
def test_image_pair_checks_itself(ir: torch.Tensor, vis: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImagePair("x", ir, vis)


@pytest.mark.parametrize(
    ("ir", "vis"),
    [
        ("IR_{}", "VIS_{}"),
        ("ir-{}", "visible-{}"),
        ("IR{}", "VIS{}"),
        ("{}_ir", "{}_vi"),
        ("{} infrared", "{} Visible"),
    ],
)
def test_names_with_the_mark_of_their_side(tmp_path: Path, ir: str, vis: str) -> None:
    for number in ("01", "02", "10"):
        _write(tmp_path / "ir" / f"{ir.format(number)}.png", seed=int(number))
        _write(tmp_path / "vi" / f"{vis.format(number)}.jpg", seed=int(number))
    source = PairedFolder(tmp_path)
    assert source.names == ("01", "02", "10")
    assert np.array_equal(source.load(2).ir[0], read_infrared(tmp_path / "ir" / f"{ir.format('10')}.png"))
    (tmp_path / "train.txt").write_text(f"{ir.format('10')}.png\n{vis.format('02')}")
    (tmp_path / "val.txt").write_text("01.jpg")
    assert PairedFolder(tmp_path).split_names == {"train": ("10", "02"), "val": ("01",)}
    _write(tmp_path / "ir" / "map.png")
    assert _error(tmp_path) == f"cannot use the image pairs in {tmp_path}: ir/map.png has no partner in vi/"


def test_marks_count_as_names_where_names_pair_up_or_would_become_one(root: Path, tmp_path: Path) -> None:
    for side in ("ir", "vi"):
        _write(root / side / "ir_a.png")
    assert PairedFolder(root).names == ("a", "b", "c.1", "ir_a")
    other = tmp_path / "other"
    for name in ("IR_1", "1_IR"):
        _write(other / "ir" / f"{name}.png")
        _write(other / "vi" / f"{name.replace('IR', 'VIS')}.png")
    assert "(4 problems)" in _error(other)


def test_names_that_differ_only_in_the_encoding_of_accents(root: Path) -> None:
    _write(root / "ir" / "e\u0301.png")
    _write(root / "vi" / "\u00e9.png")
    assert "ir/e\u0301.png has no partner in vi/ (\u00e9.png encodes its accents differently)" in _error(root)


def test_odd_names(root: Path) -> None:
    names = ["new\nline", "\udcff\udcfe", " ", "Bäume 図", "-rf", "a" * 200, "100%s{}"]
    for number, name in enumerate(names):
        for side in ("ir", "vi"):
            _write(root / side / f"{name}.png", seed=number)
    source = PairedFolder(root)
    assert set(names) < set(source.names)
    assert all(source.load(index).ir.shape == (1, *source.sizes[index]) for index in range(len(source)))
    assert len(source.fingerprint()) == 64
    for name in names:
        (root / "vi" / f"{name}.png").unlink()
    text = _error(root)
    assert r"ir/new\nline.png has no partner" in text
    assert r"ir/\udcff\udcfe.png has no partner" in text
    assert "\n" not in text
    assert text.encode()


def test_everything_that_is_no_image_is_named(root: Path) -> None:
    for side in ("ir", "vi"):
        os.mkfifo(root / side / "pipe.png")
        (root / side / "dangling.png").symlink_to(root / "nowhere")
        (root / side / "device.png").symlink_to("/dev/zero")
        (root / side / "loop.png").symlink_to("loop.png")
    text = _error(root)
    assert "(8 problems)" in text
    assert f"{root}/ir/pipe.png: not a regular file" in text
    assert f"{root}/vi/device.png: not a regular file" in text
    assert f"{root}/ir/dangling.png: a symbolic link to {root}/nowhere, which does not exist" in text
    assert f"{root}/vi/loop.png: a symbolic link to loop.png, which does not exist" in text


def test_symbolic_links_are_followed(root: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    (linked / "ir").mkdir(parents=True)
    (linked / "vi").symlink_to(root / "vi")
    for file in (root / "ir").iterdir():
        (linked / "ir" / file.name).symlink_to(file)
    assert PairedFolder(linked).names == PairedFolder(root).names
    (linked / "ir" / "again").symlink_to(linked)  # a folder inside itself is ignored like any other
    assert torch.equal(PairedFolder(linked).load(0).vis, PairedFolder(root).load(0).vis)


@pytest.mark.parametrize("side", ["train", "val"])
def test_lists_that_are_no_files(root: Path, side: str) -> None:
    _list(root)
    (root / f"{side}.txt").unlink()
    os.mkfifo(root / f"{side}.txt")
    assert f"{side}.txt is not a regular file" in _error(root)
    (root / f"{side}.txt").unlink()
    (root / f"{side}.txt").symlink_to("gone.txt")
    assert f"{side}.txt is not a regular file" in _error(root)


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/data", "x" * 300, ""])
def test_impossible_folders(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "\n" not in _error(path)


def test_a_folder_that_is_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "no such folder" in _error(tmp_path / "loop")


def test_float_images_are_found_before_training(root: Path) -> None:
    for name in ("a", "b"):
        size = Image.open(root / "ir" / f"{name}.png").size
        Image.new("F", size).save(root / "ir" / f"{name}.png", format="TIFF")
    text = _error(root)
    assert "(2 problems)" in text
    assert f"{root}/ir/a.png: floating-point pixels have no agreed range" in text


def test_large_folders_are_opened_in_linear_time(tmp_path: Path) -> None:
    seconds = {}
    for count in (300, 3_000):
        for side in ("ir", "vi"):
            first = _write(tmp_path / str(count) / side / "00000.png", 4, 4)
            for number in range(1, count):
                os.link(first, first.with_name(f"{number:05}.png"))
        start = time.process_time()
        assert len(PairedFolder(tmp_path / str(count))) == count
        seconds[count] = time.process_time() - start
    assert seconds[3_000] < 30 * seconds[300]  # quadratic work would cost a hundred times
    for file in (tmp_path / "3000" / "vi").iterdir():
        file.unlink()
    assert "(3000 problems)" in _error(tmp_path / "3000")
