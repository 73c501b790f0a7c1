"""What judged runs count as where policies are ranked."""

import pytest

from experiments.running.judge import FAILED_E, mean_reports, ranked_reports


def run(e: float, diverged: bool = False) -> dict:
    student = {"e": e, "mae": 0.1, "ssim_teacher": 0.9, "ag": 5.0}
    return {"report": {"teacher": {**student, "e": 1.0}, "final": student}, "diverged": diverged}


def test_a_run_that_failed_counts_as_the_worst_whatever_it_delivers() -> None:
    runs = [run(0.8), run(0.9, diverged=True)]
    assert mean_reports(runs)["final"]["e"] == pytest.approx(0.85)
    ranked = ranked_reports(runs)
    assert ranked["final"] == pytest.approx({"e": (0.8 + FAILED_E) / 2, "mae": 0.55, "ssim_teacher": 0.45, "ag": 5.0})
    assert ranked["teacher"]["e"] == 1


def test_failing_never_counts_for_more_than_what_it_delivers() -> None:
    assert ranked_reports([run(-3.0, diverged=True)])["final"]["e"] == -3


def test_runs_that_did_not_fail_count_as_they_are() -> None:
    runs = [run(0.8), run(0.6)]
    assert ranked_reports(runs) == mean_reports(runs)
