"""A data set with one fault of every kind, and one without."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion_env.data.__main__ import main
from fusion_env.data.layouts import DataSet, Labels, Part, data_sets
from fusion_env.data.verify import KINDS, verify

BOX = "0 0.5 0.5 0.25 0.25\n"


@pytest.fixture(scope="module")
def name() -> str:
    labels = Labels("boxes", ("car",), ("labels",))
    part = Part("all", pairs=16, stems=r"\d\d", names=frozenset(f"{number:02d}" for number in range(16)))
    data_sets.register("sixteen of a test")(
        DataSet("sixteen of a test", "16", (part,), "sixteen", size=(24, 32), labels=labels)
    )
    return "sixteen of a test"


def save(path: Path, seed: int, size: tuple[int, int] = (24, 32), **options: object) -> None:
    path.parent.mkdir(exist_ok=True)
    shape = (*size, 3) if path.parent.name == "vi" else size
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)).save(path, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "labels").mkdir()
    for number in range(16):
        save(tmp_path / "ir" / f"{number:02d}.png", number)
        save(tmp_path / "vi" / f"{number:02d}.png", 100 + number)
        (tmp_path / "labels" / f"{number:02d}.txt").write_text(BOX)
    return tmp_path


def spoil(root: Path) -> None:
    ir, vi = root / "ir", root / "vi"
    for side in (ir, vi, root / "labels"):
        next(side.glob("00.*")).unlink()  # missing
    (vi / "01.png").unlink()  # unpaired
    save(ir / "99.png", 1)  # extra
    (ir / "notes.docx").write_text("no image")  # extra
    save(ir / "02.bmp", 2)  # twice, by its name
    (vi / "03.png").write_bytes((vi / "04.png").read_bytes())  # twice, by its bytes
    (vi / "05.png").write_bytes((vi / "05.png").read_bytes()[:-300])  # damaged
    (ir / "06.png").write_bytes(b"")  # damaged
    save(ir / "07.png", 7, (20, 32))  # size, twice: of the data set and of the pair
    (ir / "08.png").write_bytes((vi / "09.png").read_bytes()[:])  # colour, and twice
    save(vi / "10.png", 10, format="JPEG")  # lossy
    Image.open(vi / "14.png").convert("L").save(vi / "14.png")  # colour
    (root / "labels" / "11.txt").unlink()  # unlabelled
    (root / "labels" / "12.txt").write_text("7 0.5 0.5 0.25 0.25")  # label
    (root / "labels" / "13.txt").write_text("0 0.5 0.5 2.0 0.25")  # label
    (root / "labels" / "77.txt").write_text(BOX)  # label


def test_nothing_is_wrong(root: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", name, str(root)]) == 0
    told = capsys.readouterr().out
    assert "16 of 16 pairs" in told
    assert told.endswith("nothing is wrong\n")


def test_every_kind_of_fault(root: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    spoil(root)
    verdict = verify(name, root)
    found = sorted((fault.kind, fault.path.relative_to(root).as_posix()) for fault in verdict.faults)
    assert found == [
        ("colour", "ir/08.png"),
        ("colour", "vi/14.png"),
        ("damaged", "ir/06.png"),
        ("damaged", "vi/05.png"),
        ("extra", "ir/99.png"),
        ("extra", "ir/notes.docx"),
        ("label", "labels/12.txt"),
        ("label", "labels/13.txt"),
        ("label", "labels/77.txt"),
        ("lossy", "vi/10.png"),
        ("missing", "ir"),
        ("size", "ir/07.png"),
        ("size", "ir/07.png"),
        ("twice", "ir/02.png"),
        ("twice", "vi/04.png"),
        ("twice", "vi/09.png"),
        ("unlabelled", "labels"),
        ("unpaired", "ir/01.png"),
    ]
    assert {kind for kind, _ in found} == KINDS.keys() - {"changed"}
    assert main(["verify", name, str(root)]) == 1
    assert capsys.readouterr().out.endswith("18 faults of 10 kinds\n")
    assert main(["verify", name, str(root), "--partial", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 17


def test_labels_of_what_was_not_asked_for_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    for part, stem in (("train", "010001"), ("test", "190001")):
        for side, shape in (("infrared", (8, 8)), ("visible", (8, 8, 3))):
            picture = tmp_path / side / part / f"{stem}.png"
            picture.parent.mkdir(parents=True)
            Image.fromarray(np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)).save(picture)
        (tmp_path / "Annotations" / f"{stem}.txt").write_text(BOX)

    def wrong(name: str, **options: bool) -> list[str]:
        return [fault.path.name for fault in verify(name, tmp_path, **options).faults if fault.kind == "label"]

    assert wrong("llvip-test") == []  # the annotations of both parts lie in one folder
    (tmp_path / "Annotations" / "020002.txt").write_text(BOX)
    (tmp_path / "Annotations" / "of_mine.txt").write_text(BOX)
    assert wrong("llvip", partial=True) == wrong("llvip-test") == ["of_mine.txt"]
    assert wrong("llvip") == ["020002.txt", "of_mine.txt"]


def test_bytes_that_are_not_the_published_ones(tmp_path: Path) -> None:
    for folder, mode in (("cropinfrared", "L"), ("crop_LR_visible", "RGB")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (32, 24), 200).save(tmp_path / folder / "FLIR_00006.jpg")
    kinds = [fault.kind for fault in verify("roadscene", tmp_path, partial=True).faults]
    assert kinds == ["changed", "changed"]


def test_what_cannot_be_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", "m3fd", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["verify", "m3df", str(tmp_path)]) == 2
    assert "Did you mean 'm3fd'" in capsys.readouterr().err


def test_a_whole_part_is_missing(tmp_path: Path) -> None:
    for side in ("Ir", "Vis"):
        (tmp_path / "M3FD_Fusion" / side).mkdir(parents=True)
    told = [fault.told for fault in verify("m3fd", tmp_path).faults]
    assert any("the part detection" in text for text in told)
    assert any("0 names of pairs; 300 are published" in text for text in told)
