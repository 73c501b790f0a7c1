"""Means, bootstrap intervals and marks of the comparison."""

import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.evaluation.summary import bootstrap_interval, summarise, summary_table

UP = SimpleNamespace(name="up", higher_is_better=True)
DOWN = SimpleNamespace(name="down", higher_is_better=False)


def frame(**methods: list[tuple[float, float]]) -> pd.DataFrame:
    rows = [
        {"method": method, "image": str(i), "up": up, "down": down}
        for method, values in methods.items()
        for i, (up, down) in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_interval_equals_an_independent_bootstrap() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, (40, 1))
    low, high = bootstrap_interval(values, resamples=20_000)[0]
    rng = random.Random(1)
    means = sorted(sum(rng.choices(values[:, 0].tolist(), k=40)) / 40 for _ in range(20_000))
    spread = values.std() / np.sqrt(40)
    assert low == pytest.approx(means[500], abs=0.05 * spread)
    assert high == pytest.approx(means[19_500], abs=0.05 * spread)
    assert low < values.mean() < high


def test_interval_of_two_images_is_exact() -> None:
    """Of two images a resample holds the first 0, 1 or 2 times, with probabilities 1/4, 1/2, 1/4."""
    intervals = bootstrap_interval(np.array([[0.0, 5.0], [1.0, 9.0]]), resamples=2000)
    assert intervals.tolist() == [[0.0, 1.0], [5.0, 9.0]]
    assert bootstrap_interval(np.array([[0.0], [1.0]]), resamples=2000, level=0.4).tolist() == [[0.5, 0.5]]


def test_interval_is_seeded_and_leaves_the_global_state_alone() -> None:
    values = np.random.default_rng(0).random((12, 3))
    state = np.random.get_state()[1].copy()
    first = bootstrap_interval(values, 500, seed=3)
    assert (bootstrap_interval(values, 500, seed=3) == first).all()
    assert (bootstrap_interval(values, 500, seed=4) != first).any()
    assert (np.random.get_state()[1] == state).all()
    np.testing.assert_allclose(bootstrap_interval(values[:, 1:2], 500, seed=3), first[1:2])


def test_many_images_are_drawn_in_pieces() -> None:
    values = np.random.default_rng(0).random((30_000, 1))
    low, high = bootstrap_interval(values, resamples=300)[0]
    deviation = values.std() / np.sqrt(30_000)
    assert (high - low) == pytest.approx(2 * 1.96 * deviation, rel=0.2)


def test_no_interval_where_there_is_none() -> None:
    values = np.array([[1.0, np.nan, np.inf, 2.0], [2.0, 1.0, 1.0, 2.0]])
    intervals = bootstrap_interval(values, 100)
    assert np.isnan(intervals[1:3]).all()
    assert intervals[3].tolist() == [2.0, 2.0]
    assert np.isnan(bootstrap_interval(values[:1], 100)).all()


def test_places_follow_the_direction() -> None:
    summary = summarise(frame(a=[(1, 1), (2, 2)], b=[(3, 3), (4, 4)], c=[(5, 5), (6, 6)]), [UP, DOWN], 50)
    places = summary.pivot(index="metric", columns="method", values="place")
    assert places.loc["up"].to_dict() == {"a": "", "b": "second", "c": "best"}
    assert places.loc["down"].to_dict() == {"a": "best", "b": "second", "c": ""}
    assert summary["n"].tolist() == [2] * 6
    assert summary.loc[0, "mean"] == 1.5


def test_equal_means_share_a_place() -> None:
    summary = summarise(frame(a=[(1, 3)], b=[(1, 1)], c=[(0, 1)], d=[(0, 0)]), [UP, DOWN], 50)
    places = summary.pivot(index="metric", columns="method", values="place")
    assert places.loc["up"].to_dict() == {"a": "best", "b": "best", "c": "", "d": ""}
    assert places.loc["down"].to_dict() == {"a": "", "b": "second", "c": "second", "d": "best"}


def test_a_single_method_and_nan_have_no_place() -> None:
    assert (summarise(frame(a=[(1, 1)]), [UP, DOWN], 50)["place"] == "").all()
    summary = summarise(frame(a=[(1, 1)], b=[(np.nan, 2)], c=[(0, 3)]), [UP], 50)
    assert summary["place"].tolist() == ["best", "", "second"]
    assert np.isnan(summary.loc[1, "mean"])


def test_markdown_marks_best_and_second() -> None:
    summary = summarise(frame(a=[(1, 0.5), (1, 0.5)], b=[(30, 0.25), (31, 0.25)], c=[(2, 9), (2, 9)]), [UP, DOWN], 50)
    summary.loc[(summary.method == "b") & (summary.metric == "up"), ["ci_low", "ci_high"]] = 30.123, 30.987
    assert summary_table(summary, [UP, DOWN]).splitlines() == [
        "| method | n | up | down |",
        "|---|---:|---:|---:|",
        "| a | 2 | 1.00 [1.00, 1.00] | *0.500* [0.500, 0.500] |",
        "| b | 2 | **30.50** [30.12, 30.99] | **0.250** [0.250, 0.250] |",
        "| c | 2 | *2.00* [2.00, 2.00] | 9.000 [9.000, 9.000] |",
    ]


def test_markdown_shows_small_and_large_means() -> None:
    summary = summarise(frame(a=[(0.0041234, 23456.7)]), [UP, DOWN], 50)
    assert summary_table(summary, [UP, DOWN]).splitlines()[-1] == "| a | 1 | 0.004123 | 23457 |"


def test_markdown_of_odd_values() -> None:
    summary = summarise(frame(**{"a|b": [(np.nan, 0)], "c": [(np.inf, 0)]}), [UP, DOWN], 50)
    assert summary_table(summary, [UP, DOWN]).splitlines()[2:] == [
        "| a\\|b | 1 | nan | **0.000** |",
        "| c | 1 | **inf** | **0.000** |",
    ]
