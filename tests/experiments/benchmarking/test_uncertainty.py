import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean, ttest_rel

from experiments.benchmarking.uncertainty import (
    holm,
    interquartile_mean,
    interval,
    middle_half,
    normalised_score,
    paired_difference,
    probability_of_improvement,
    unit_interval,
)

# Columns are strata ("tasks" in rliable); the expected values below were computed with rliable 1.2.0.
X = np.array(
    [
        [-0.602, -1.124, -0.048],
        [0.62, 1.336, 0.31],
        [-0.353, -0.585, 0.949],
        [1.835, 0.473, -1.033],
        [-0.758, 1.8, 0.403],
        [-1.532, 0.116, -0.963],
        [-0.429, -0.288, -0.513],
    ]
)
Y = np.array(
    [
        [0.553, -0.063, -0.589],
        [0.41, 0.83, -1.643],
        [-0.257, -0.981, -0.173],
        [-1.289, 0.021, -0.038],
        [-0.304, -1.048, -0.396],
        [-1.091, -1.355, 0.225],
        [-1.109, 1.17, 0.717],
    ]
)
RLIABLE_IQM_X, RLIABLE_IQM_Y = -0.1378181818181818, -0.3275454545454546
RLIABLE_IMPROVEMENT = 0.5714285714285716
RLIABLE_INTERVAL_X = (-0.5364, 0.3389)  # 50,000 resamples
RLIABLE_INTERVAL_IMPROVEMENT = (0.3878, 0.7483)  # 20,000 resamples


def test_agrees_with_rliable() -> None:
    assert interquartile_mean(list(X.T)) == pytest.approx(RLIABLE_IQM_X, rel=1e-12)
    assert interquartile_mean(list(Y.T)) == pytest.approx(RLIABLE_IQM_Y, rel=1e-12)
    assert probability_of_improvement(list(X.T), list(Y.T)) == pytest.approx(RLIABLE_IMPROVEMENT, rel=1e-12)


def test_intervals_agree_with_rliable() -> None:
    ours = interval(interquartile_mean, list(X.T), resamples=10_000)
    assert (ours.low, ours.high) == pytest.approx(RLIABLE_INTERVAL_X, abs=0.02)
    assert ours.value == pytest.approx(RLIABLE_IQM_X)
    ours = interval(probability_of_improvement, list(X.T), list(Y.T), resamples=5_000)
    assert (ours.low, ours.high) == pytest.approx(RLIABLE_INTERVAL_IMPROVEMENT, abs=0.02)


def test_agrees_with_an_installed_rliable() -> None:
    try:
        metrics = importlib.import_module("rliable.metrics")
    except (ImportError, TypeError) as error:  # a dependency of rliable 1.2 cannot be imported beside pandas 3
        pytest.skip(f"rliable cannot be imported: {error}")
    assert interquartile_mean(list(X.T)) == pytest.approx(metrics.aggregate_iqm(X))
    assert probability_of_improvement(list(X.T), list(Y.T)) == pytest.approx(metrics.probability_of_improvement(X, Y))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
@settings(deadline=None, max_examples=50)
def test_interquartile_mean_is_a_trimmed_mean(scores: list[float]) -> None:
    strata = [np.array(scores[:3]), np.array(scores[3:])]
    assert interquartile_mean(strata) == pytest.approx(trim_mean(scores, 0.25), abs=1e-9)


def test_one_wild_run_does_not_move_the_interquartile_mean() -> None:
    assert interquartile_mean([np.array([1.0, 2.0, 3.0, -1e6])]) == 1.5


def test_improvement_counts_ties_half_and_strata_alike() -> None:
    one, two = [np.array([1.0])], [np.array([0.0])]
    assert probability_of_improvement(one, two) == 1
    assert probability_of_improvement(two, one) == 0
    assert probability_of_improvement(one, one) == 0.5
    # Three wins in a large stratum do not outweigh a loss in a small one.
    ours, theirs = [np.ones(3), np.zeros(1)], [np.zeros(3), np.ones(1)]
    assert probability_of_improvement(ours, theirs) == 0.5
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        probability_of_improvement(ours, theirs[:1])


def test_resampling_stays_inside_the_strata() -> None:
    strata = [np.full(3, 0.0), np.full(5, 10.0)]
    estimate = interval(lambda sample: float(np.concatenate(sample).mean()), strata)
    assert estimate.low == estimate.value == estimate.high == 6.25
    assert f"{estimate:.2f}" == "6.25 [6.25, 6.25]"


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        estimate = interval(
            lambda sample: float(np.concatenate(sample).mean()), [rng.normal(size=30)], seed=seed, resamples=300
        )
        hits += estimate.low <= 0 <= estimate.high
    assert 180 <= hits <= 198


def test_paired_difference_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 7))
    difference, expected = paired_difference(ours, theirs), ttest_rel(ours, theirs)
    assert (difference.low, difference.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert difference.p == pytest.approx(expected.pvalue)
    assert np.isnan(paired_difference([1.0], [0.0]).p)
    assert paired_difference([1.0, 1.0], [1.0, 1.0]).p == 1
    assert paired_difference([2.0, 2.0], [1.0, 1.0]).p == 0


def test_holm_is_monotone_and_leaves_unknown_ones_out() -> None:
    # The example of Holm's paper in the form of R's p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm").
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, float("nan"), 0.6]) == pytest.approx([1.0, float("nan"), 1.0], nan_ok=True)
    assert holm([]) == []


def test_an_expanded_interval_is_wider_than_the_percentile_one() -> None:
    scores = np.random.default_rng(0).normal(size=5)
    wide, plain = unit_interval(middle_half, scores), interval(interquartile_mean, [scores])
    assert wide.value == plain.value
    assert wide.low < plain.low < plain.high < wide.high
    assert f"{unit_interval(middle_half, [0.25]):.2f}" == "0.25"


def test_a_normalised_score_is_the_share_of_what_was_gainable() -> None:
    rng = np.random.default_rng(0)
    best = {unit: 1 + 0.2 * rng.normal() for unit in range(8)}
    half = {unit: gain / 2 for unit, gain in best.items()}
    together = normalised_score(half, best)
    assert (together.value, together.low, together.high) == pytest.approx((0.5, 0.5, 0.5))
    apart = normalised_score({unit + 100: gain for unit, gain in half.items()}, best)
    assert apart.value == pytest.approx(0.5)
    assert apart.low < 0.45 < 0.55 < apart.high
    noise = {unit: rng.normal() for unit in range(8)}
    assert np.isnan(normalised_score(half, noise).value)
    assert np.isnan(normalised_score(half, {0: 1.0}).value)
