"""The table that a run ends with, as a person reads it."""

from typing import Any

import pytest

from experiments.running.summary_table import summary_table

COLUMNS = ("e", "mae", "ssim_teacher", "ag", "ei", "sd", "en", "vif", "ssim", "iqa")


def summary(value: float) -> dict[str, Any]:
    report = dict.fromkeys(("teacher", "stage0", "final"), dict.fromkeys(COLUMNS, value))
    told = {"protocol": "online", "closer_to_teacher": True, "report_pairs": 3, "diverged_runs": 0}
    return {"report": report, **told}


@pytest.mark.parametrize("value", [0.5, 1234.5, -123456.75])
def test_numbers_of_any_size_are_apart(value: float) -> None:
    lines = summary_table(summary(value)).splitlines()
    assert lines[0].split() == ["E", "MAE", "SSIM(teacher)", "AG", "EI", "SD", "EN", "VIF", "SSIM", "IQA"]
    assert lines[1].split() == ["teacher", *[f"{value:.4f}"] * len(COLUMNS)]
    assert len({len(line) for line in lines[:4]}) == 1


def test_what_is_delivered_and_what_it_is_compared_with() -> None:
    many = summary(0.5)
    names = ("last", "unsharp", "contrast", "laplacian", "average", "guidance_only")
    many["report"] |= dict.fromkeys(names, many["report"]["final"])
    many |= {"best_rounds": [7, 0], "closer_than_guidance_only": True}
    text = summary_table(many)
    titles = ("guidance only", "with agent", "last round", "+ unsharp", "contrast x1.2", "Laplacian", "average")
    assert [line for line in text.splitlines() if line.startswith(titles)] == text.splitlines()[3:10]
    assert "the best student of a run by the reward split, here that of round 7, stage 0." in text


def test_columns_of_ordinary_numbers() -> None:
    lines = summary_table(summary(0.5)).splitlines()
    assert (
        lines[0]
        == "                     E     MAE SSIM(teacher)      AG      EI      SD      EN     VIF    SSIM     IQA"
    )
    assert lines[1].startswith("teacher         0.5000  0.5000        0.5000  0.5000")


def test_rounds_on_copies_are_said() -> None:
    rounds = {"learning_rounds": 0, "judged_rounds": 6}
    assert "copies" not in summary_table(summary(0.5) | rounds | {"planning_rounds": 0})
    planned = summary_table(summary(0.5) | rounds | {"planning_rounds": 48})
    assert "Beside 6 rounds it took 48 on copies, to plan." in planned
