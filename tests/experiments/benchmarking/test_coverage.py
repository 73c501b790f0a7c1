"""The protocol's table of coverage is what the simulation gives."""

import re
from pathlib import Path

import pytest

from experiments.benchmarking.coverage import STARTS, coverage, main
from fusion_env.errors import ConfigError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "benchmark-protocol.md"
ROW = re.compile(r"^\| (normal|skewed|5 % fail) \| (\d+) \| (.*) \|$", re.MULTILINE)


def table() -> dict[tuple[str, int], list[float]]:
    """Return the shares of the page."""
    return {
        (shape, int(starts)): list(map(float, rest.split(" | ")))
        for shape, starts, rest in ROW.findall(PAGE.read_text())
    }


@pytest.mark.slow
def test_the_page_has_the_numbers_of_the_simulation() -> None:
    published = table()
    assert len(published) == 3 * len(STARTS)
    for shape, starts in (("normal", 5), ("5 % fail", 10)):
        paired, middle, _, _, runs_only, false_best, uncorrected = published[shape, starts]
        new = coverage(shape, starts, 200, seed=1)
        assert new.paired == pytest.approx(paired, abs=0.06)
        assert new.uncorrected == pytest.approx(uncorrected, abs=0.12)
        assert new.false_best == pytest.approx(false_best, abs=0.08)
        assert (new.middle, new.runs_only) == pytest.approx((middle, runs_only), abs=0.4)


def test_where_the_warning_stops_intervals_hold_what_they_say() -> None:
    published = table()
    for starts in (5, 6, 8, 10):
        paired, middle, *_ = published["normal", starts]
        assert 0.93 <= paired <= 0.97
        assert middle >= 0.92
    assert published["normal", 3][1] < 0.92


def test_numbers_that_say_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="--starts must be 2 or more"):
        main(["--starts", "1"])
