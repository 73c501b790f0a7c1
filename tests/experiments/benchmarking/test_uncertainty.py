import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from experiments.benchmarking.uncertainty import interquartile_mean, interval, probability_of_improvement

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
