"""Which files count, and which belong together."""

from pathlib import Path

import pytest

from student.errors import ImageError
from student.listing import by_stem, match_names, match_sides


def test_what_is_passed_over(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "b.tif", "none", ".hidden.png", "._b.png", "a.txt", "Thumbs.db", "data.json"):
        (tmp_path / name).touch()
    (tmp_path / "old.png").mkdir()
    names = {stem: [file.name for file in files] for stem, files in by_stem(tmp_path).items()}
    assert names == {"a": ["a.JPG"], "b": ["b.png", "b.tif"], "none": ["none"]}


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=f"{name}: cannot be listed"):
        by_stem(tmp_path / name)


def test_marks_count_only_where_no_names_agree() -> None:
    ir, vis = match_sides(ir={"IR_1": 1, "2-infrared": 2}, vis={"VIS_1": 1, "2 visible": 2})
    assert (ir, vis) == ({"1": 1, "2": 2}, {"1": 1, "2": 2})
    ir, vis = match_sides(ir={"IR_1": 1, "x": 2}, vis={"VIS_1": 1, "x": 2})
    assert (ir, vis) == ({"IR_1": 1, "x": 2}, {"VIS_1": 1, "x": 2})


@pytest.mark.parametrize("names", [["IR_1", "IR_2"], ["VIS_1", "VIS_2"], ["1", "2"], ["1_ir", "vis-2"]])
def test_fused_images_are_named_like_either_side(names: list[str]) -> None:
    assert match_names(dict.fromkeys(names, 0), ["1", "2"]) == {"1": 0, "2": 0}


def test_fused_names_that_would_become_one_stay() -> None:
    files = {"IR_1": 0, "VIS_1": 0}
    assert match_names(files, ["1"]) == files
