import csv
from pathlib import Path

import pytest

from experiments.measurements.metric_accuracy import TABLES, limit, main, read_rows
from fusion_env.errors import DataError

PAIRS = ("carLight", "17")


@pytest.fixture
def small_reference(reference_dir: Path, tmp_path: Path) -> Path:
    """A reference folder with the rows of two images, by links to the images."""
    whole = reference_dir / "reference" / "metrics"
    (tmp_path / "images").symlink_to(whole / "images")
    for name in TABLES:
        with open(whole / name, newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [row for row in rows if row["pair"] in PAIRS and row["method"] in ("GFF", "KDFuse")]
        write_table(tmp_path / name, kept)
    return tmp_path


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["pair", "method", "image", "metric", "value", "source"])
        writer.writeheader()
        writer.writerows(rows)


def change(path: Path, metric: str, factor: float) -> None:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["metric"] == metric:
            row["value"] = str(float(row["value"]) * factor)
    write_table(path, rows)


def test_page_has_every_metric_and_source(small_reference, tmp_path):
    page = tmp_path / "accuracy.md"
    assert main(["--reference", str(small_reference), "--out", str(page)]) == 0
    text = page.read_text()
    expected = {(row.metric, row.source) for row in read_rows(small_reference).itertuples()}
    assert len(expected) > 30
    for metric, source in expected:
        assert f"| {metric} | {source} |" in text


@pytest.mark.parametrize(
    ("metric", "named"), [("VIF", "vif from float64"), ("VIFB_SF", "sf from uint8"), ("SF_u8", "sf_uint8")]
)
def test_a_broken_limit_is_named_and_fails(small_reference, capsys, metric, named):
    change(small_reference / "vifb.csv", metric, 1.001)
    assert main(["--reference", str(small_reference)]) == 1
    assert f"limit broken: {named}" in capsys.readouterr().err


def test_missing_image_is_an_error(small_reference):
    table = small_reference / "vifb.csv"
    table.write_text(table.read_text().replace("carLight_GFF.jpg", "carLight_Nobody.jpg"))
    with pytest.raises(DataError, match=r"carLight_Nobody\.jpg is missing"):
        main(["--reference", str(small_reference)])


def test_missing_tables_and_unknown_metrics_are_errors(small_reference, tmp_path):
    with pytest.raises(DataError, match=r"vifb\.csv is missing.*--reference"):
        main(["--reference", str(tmp_path / "nowhere")])
    table = small_reference / "vifb.csv"
    table.write_text(table.read_text().replace(",SCD,", ",SDC,"))
    with pytest.raises(DataError, match="unknown metric 'SDC'"):
        read_rows(small_reference)


def test_limits():
    assert limit("ag", "float64 numpy, gray convention") == 1e-5
    assert limit("viff", "float64 numpy, gray convention") == 1e-3
    assert limit("ssim", "VIFB published (5 significant digits)") == 6e-5
