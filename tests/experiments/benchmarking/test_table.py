from functools import cache
from typing import Any

import numpy as np
import pytest

from experiments.benchmarking.table import results_table

NUMBERS = {"good": 0.3, "constant": 0.0, "random": -0.2}


def rows(runs: int = 8) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {
            "protocol": "online",
            "policy": policy,
            "teacher": "laplacian",
            "data": "procedural",
            "seed": seed,
            "stage0_seed": seed % 2,
            "report_gap": mean + rng.normal(0, 0.2),
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
            "judged_rounds": 100,
            "planning_rounds": 0,
            "gradient_updates": 42,
            "diverged_runs": int(seed == 3 and policy == "good"),
            "seconds_training": 5.0,
            "seconds_frozen": 1.0,
        }
        for policy, mean in NUMBERS.items()
        for seed in range(runs)
    ]


@cache
def default_table() -> str:
    return results_table(rows())


def cells(table: str, policy: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {policy} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_numbers_are_those_of_the_rows() -> None:
    table, data = default_table(), rows()
    good = np.sort([row["report_gap"] for row in data if row["policy"] == "good"])
    row = cells(table, "good")
    assert row[1] == "8"
    assert row[2].split()[0] == f"{good[2:6].mean():.3f}"
    low, high = (float(part.strip("[],")) for part in row[2].split()[1:])
    assert low < good[2:6].mean() < high
    share = np.mean(
        [
            np.mean([a["report_gap"] > b["report_gap"] for a in mine for b in theirs])
            for stratum in (0, 1)
            for mine in [[r for r in data if r["policy"] == "good" and r["stage0_seed"] == stratum]]
            for theirs in [[r for r in data if r["policy"] == "random" and r["stage0_seed"] == stratum]]
        ]
    )
    assert float(row[6].split()[0]) == pytest.approx(share, abs=0.006)
    assert row[7:11] == ["100 / 100", "42", "6", "1"]
    assert [cell.split()[0] for cell in row[11:]] == ["0.200", "0.400", "0.500", "90"]


def test_rounds_on_copies_stand_beside_the_others() -> None:
    planned = [row | {"planning_rounds": 800 * (row["policy"] == "good")} for row in rows(runs=2)]
    table = results_table(planned)
    assert [cells(table, name)[7] for name in ("good", "random")] == ["100 / 100 (+ 800 to plan)", "100 / 100"]


def test_best_first_rivals_not_against_themselves_and_the_start() -> None:
    lines = default_table().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["good", "constant", "random"]
    assert cells("\n".join(lines), "constant")[5] == "-"
    assert "*stage-0 student* | 2 | -0.450 |" in lines[5]
    assert "*Laplacian* | 2 | -0.200 |  | 0.200 |" in lines[6]
    assert "*average* | 2 | -0.300 |  | 0.300 |" in lines[7]


def test_small_sample_mark() -> None:
    table = results_table(rows(), small_sample=["good"])
    assert "| good † |" in table
    assert "small-sample regime" in table
    assert "†" not in default_table()


def test_columns_are_equal_in_number() -> None:
    assert len({line.count("|") for line in default_table().splitlines()}) == 1


@pytest.mark.slow
def test_intervals_of_single_runs_are_left_out_and_few_runs_said() -> None:
    table = results_table(rows(runs=2))
    assert "[" not in table
    assert "only 1 run(s)" in table
    table = results_table(rows(runs=4))
    assert "[" in table
    assert "only 2 run(s)" in table
    assert "too narrow" not in results_table(rows(runs=6))
