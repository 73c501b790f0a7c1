from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from experiments.benchmarking.table import results_table

NUMBERS = {"good": 0.3, "constant": 0.0, "guidance-only": 0.1, "random": -0.2}


def rows(runs: int = 8, draws: int = 4, **changes: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    starts = rng.normal(0, 0.2, runs)
    return [
        {
            "protocol": "online",
            "task": "few",
            "policy": policy,
            "teacher": "laplacian",
            "data": "procedural",
            "seed": seed,
            "stage0_seed": seed % 2,
            "data_seed": seed % draws,
            "report_gap": mean + starts[seed] + rng.normal(0, 0.02),
            "mean_reward": mean + rng.normal(0, 0.1),
            "report_mae": 0.1 + rng.uniform(0, 0.1),
            "report_ssim_teacher": 0.5,
            "last_gap": mean - 0.1,
            "unsharp_gap": mean + 0.1,
            "contrast_gap": mean + 0.2,
            "best_round": 90.0,
            "laplacian_gap": -0.2,
            "laplacian_mae": 0.2,
            "average_gap": -0.3,
            "average_mae": 0.3,
            "stage0_gap": -0.5 + 0.1 * (seed % 2),
            "stage0_mae": 0.25,
            "learning_rounds": 100,
            "planning_rounds": 0,
            "judged_rounds": 100,
            "gradient_updates": 42,
            "diverged_runs": int(seed == 3 and policy == "good"),
            "failed_runs": int(seed == 3 and policy == "good"),
            "seconds_training": 5.0,
            "seconds_frozen": 1.0,
        }
        | changes
        for policy, mean in NUMBERS.items()
        for seed in range(runs)
    ]


@cache
def default_table() -> str:
    return results_table(rows())


def cells(table: str, policy: str) -> dict[str, str]:
    header, _, *lines = [line for line in table.splitlines() if line.startswith("|")]
    (line,) = [line for line in lines if line.startswith(f"| {policy} ")]
    titles, values = ([cell.strip() for cell in text.strip("|").split("|")] for text in (header, line))
    return dict(zip(titles, values, strict=True))


def units(policy: str, column: str = "report_gap") -> np.ndarray:
    """Return the means of a policy by start: 4 draws, of which each has one stage-0 seed and two runs."""
    values = [row[column] for row in rows() if row["policy"] == policy]
    return (np.array(values[:4]) + np.array(values[4:])) / 2


def test_numbers_are_those_of_the_rows() -> None:
    row, good = cells(default_table(), "good"), np.sort(units("good"))
    assert (row["n"], row["starts"]) == ("8", "4")
    assert row["final gap"].split()[0] == f"{good[1:3].mean():.3f}"
    low, high = (float(part.strip("[],")) for part in row["final gap"].split()[1:])
    assert low < good[1:3].mean() < high
    assert row["learning / planning / judged rounds"] == "100 / 0 / 100"
    assert (row["updates"], row["seconds"], row["failed"]) == ("42", "6", "1")
    assert [row[title].split()[0] for title in ("last round", "+ unsharp", "contrast x1.2", "of round")] == [
        *("0.200", "0.400", "0.500", "90")
    ]


def test_differences_are_paired_by_start_and_corrected_for_their_number() -> None:
    good, control, constant = (units(name) for name in ("good", "guidance-only", "constant"))
    row = cells(default_table(), "good")
    paired = ttest_rel(good, control)
    low, high = paired.confidence_interval()
    assert row["less guidance-only"] == f"{(good - control).mean():+.4f} [{low:+.4f}, {high:+.4f}]"
    # Of three, the largest counts once; unpaired, the starts' own spread of 0.2 would hide it.
    ps = {name: ttest_rel(units(name), control).pvalue for name in ("good", "constant", "random")}
    least = max(ps, key=lambda name: ps[name])
    shown = cells(default_table(), least)["p (Holm)"]
    assert shown == ("< 0.001" if ps[least] < 0.001 else f"{ps[least]:.3f}")
    assert ttest_ind(constant, control).pvalue > 0.05
    assert cells(default_table(), "guidance-only")["less guidance-only"] == "-"


def test_rounds_on_copies_stand_beside_the_others() -> None:
    table = results_table([row | {"planning_rounds": 800 * (row["policy"] == "good")} for row in rows(runs=2)])
    shown = [cells(table, name)["learning / planning / judged rounds"] for name in ("good", "random")]
    assert shown == ["100 / 800 / 100", "100 / 0 / 100"]


def test_best_first_rivals_not_against_themselves_and_the_start() -> None:
    lines = default_table().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["good", "guidance-only", "constant", "random"]
    assert cells(default_table(), "constant")["P(better than constant)"] == "-"
    assert cells(default_table(), "good")["P(better than random)"] == "1.00 [1.00, 1.00]"
    for line, name, gap, mae in zip(
        lines[6:9],
        ("stage-0 student", "Laplacian", "average"),
        ("-0.450", "-0.200", "-0.300"),
        (0.25, 0.2, 0.3),
        strict=True,
    ):
        assert line.startswith(f"| *{name}* |  | 4 | {gap} |")
        assert f"| {mae:.3f} |" in line


def test_breaking_does_not_pay_in_the_ranking() -> None:
    """One failure among eight, which an interquartile mean would not see."""
    data = rows()
    (broken,) = [row for row in data if row["policy"] == "good" and row["seed"] == 3]
    broken["report_gap"] = -1.0
    table = results_table(data)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:4]] == ["good", "guidance-only"]
    broken["report_gap"] = -4.0
    assert results_table(data).splitlines()[2].startswith("| guidance-only ")


def test_without_the_control_means_are_sorted() -> None:
    table = results_table([row for row in rows() if row["policy"] != "guidance-only"])
    assert "Holm" not in table
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:5]] == ["good", "constant", "random"]


def test_tuning_compares_by_rewards_alone() -> None:
    data = [{name: value for name, value in row.items() if not name.endswith(("_gap", "_mae"))} for row in rows()]
    table = results_table(data)
    assert not any(word in table for word in ("gap", "MAE", "unsharp", "stage-0 student"))
    assert "mean reward" in table
    assert cells(table, "good")["less guidance-only"].startswith("+0.")


def test_tasks_are_not_pooled() -> None:
    with pytest.raises(ValueError, match="different units"):
        results_table(rows() + rows(task="shift"))


def test_small_sample_mark() -> None:
    table = results_table(rows(), small_sample=["good"])
    assert "| good † |" in table
    assert "small-sample regime" in table
    assert "†" not in default_table()


def test_columns_are_equal_in_number() -> None:
    assert len({line.count("|") for line in default_table().splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(("draws", "few"), [(1, True), (4, True), (8, False)])
def test_few_starts_are_said(draws: int, few: bool) -> None:
    assert ("Intervals are too narrow" in results_table(rows(draws=draws))) == few


def test_one_start_has_no_interval() -> None:
    assert "[" not in results_table(rows(runs=1))
