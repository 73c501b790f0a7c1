"""The study of stage 0."""

from pathlib import Path

import pytest

from experiments.studies.stage0_curves import main


@pytest.mark.slow
def test_the_page_has_both_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    monkeypatch.setenv("FUSION_ENV_CACHE", cache)
    assert main(["--out", str(tmp_path), "--rounds", "5", "--seeds", "0", "--preset", "tiny"]) == 0
    page = (tmp_path / "stage0-curves.md").read_text()
    assert (tmp_path / "stage0-curves.png").stat().st_size > 1000
    assert page.count("| prune |") == page.count("| random |") == 1
    assert "| start | round 1 | round 5 |" in page
    assert [f"| {rounds} |" in page for rounds in (0, 10, 40, 80)] == [True] * 4
    assert "| 20 (the preset's) |" in page
    assert "--preset tiny" in page
