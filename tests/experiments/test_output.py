import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from experiments.output import markdown_row, markdown_table, print_or_write, save_figure, write_csv


def test_table() -> None:
    rows = [["a|b", 2, 0.12345], ["", "*x*", np.float64(1)]]
    assert markdown_table(["name", "n", "value"], rows, decimals=3, right_from=1).splitlines() == [
        "| name | n | value |",
        "|---|---:|---:|",
        "| a\\|b | 2 | 0.123 |",
        "|  | *x* | 1.000 |",
    ]


def test_rows_can_follow_later_and_floats_can_be_whole() -> None:
    table = markdown_table(["x", "y"], [["a", 0.1 + 0.2]])
    assert table == markdown_table(["x", "y"], []) + "\n" + markdown_row(["a", 0.1 + 0.2])
    assert table.endswith("| a | 0.30000000000000004 |")


def test_csv(tmp_path: Path) -> None:
    rows = [{"name": "a, b", "n": 1, "value": 0.1 + 0.2}, {"name": "", "n": 2, "value": math.nan}]
    write_csv(tmp_path / "new" / "whole.csv", rows)
    assert (tmp_path / "new" / "whole.csv").read_bytes() == (b'name,n,value\n"a, b",1,0.30000000000000004\n,2,nan\n')
    write_csv(tmp_path / "short.csv", rows, digits=9)
    assert (tmp_path / "short.csv").read_bytes() == b'name,n,value\n"a, b",1,0.3\n,2,\n'


def test_csv_refuses_other_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_csv(tmp_path / "x.csv", [{"a": 1}, {"b": 2}])
    assert not list(tmp_path.iterdir())


def test_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    print_or_write("for the terminal", None)
    print_or_write("für die Datei\n", tmp_path / "new" / "page.md")
    assert capsys.readouterr().out == "for the terminal\n"
    assert (tmp_path / "new" / "page.md").read_text(encoding="utf-8") == "für die Datei\n"


def test_figure_of_any_backend_and_none_is_made(tmp_path: Path) -> None:
    before = pyplot.get_fignums()
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    save_figure(figure, tmp_path / "new" / "figure.png", dpi=50)
    with Image.open(tmp_path / "new" / "figure.png") as image:
        assert image.size == (100, 50)
        assert np.asarray(image).std() > 10
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.png"]
    assert pyplot.get_fignums() == before
