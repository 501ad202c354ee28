"""Intervals: coverage by simulation, and against SciPy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.study.intervals import Estimate, Resampling, holm, mean_of_cells, paired


def test_bootstrap_covers_the_mean_over_cells_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        effects = rng.normal(2.0, 3.0, (30, 1))
        values = effects + rng.normal(0, 1.5, (30, 5))
        estimate = Resampling.draw(30, 5, resamples=400, seed=trial % 4).mean(values)
        covered += estimate.low <= 2.0 <= estimate.high
    # 300 trials at .95 lie above .915 in 99.7 % of cases; the second drawing of seeds makes them a little wider.
    assert 0.915 <= covered / 300 <= 0.99


def test_fast_mean_is_the_general_one() -> None:
    values = np.random.default_rng(1).normal(size=(7, 3))
    resampling = Resampling.draw(7, 3, resamples=200)
    fast, general = resampling.mean(values), resampling.estimate(mean_of_cells, values)
    assert (fast.value, fast.low, fast.high) == pytest.approx((general.value, general.low, general.high), abs=1e-12)


def test_missing_runs_are_left_out() -> None:
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    assert Resampling.draw(3, 2, resamples=50).mean(values).value == pytest.approx(2.5)


def test_nothing_measured_is_no_number() -> None:
    estimate = Resampling.draw(0, 5, resamples=50).mean(np.empty((0, 5)))
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    assert estimate.sign == 0


def test_differences_between_arms_are_paired() -> None:
    base = np.random.default_rng(2).normal(0, 20, (20, 5))
    estimate = Resampling.draw(20, 5, resamples=300).mean((base + 0.5) - base)
    assert (estimate.low, estimate.high) == pytest.approx((0.5, 0.5))


def test_shrinking_variances_keeps_the_risk_and_gains_power() -> None:
    rng = np.random.default_rng(3)
    scales = np.sqrt(1 / rng.gamma(4, 1 / 4, 4000))
    noise = rng.normal(0, 1, (4000, 5)) * scales[:, None]
    shrunk = paired(noise)
    assert np.mean(shrunk.p_below < 0.025) == pytest.approx(0.025, abs=0.008)
    assert np.mean(shrunk.p_above < 0.025) == pytest.approx(0.025, abs=0.008)
    shifted = paired(noise + 1.5)
    plain = stats.ttest_1samp(noise + 1.5, 0, axis=1, alternative="greater").pvalue
    assert np.mean(shifted.p_above < 0.001) > 1.5 * np.mean(plain < 0.001)


def test_equal_variances_are_pooled() -> None:
    differences = np.random.default_rng(4).permuted(np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], (50, 1)), axis=1)
    found = paired(differences + 3)
    pooled = stats.norm.ppf(0.975) * np.sqrt(2.5 / 5)
    assert found.mean == pytest.approx(3.0)
    # The fit weighs logarithms of variances, so it is the common variance up to the bias of ln chi2_4.
    assert found.high - found.mean == pytest.approx(pooled * np.exp(0.5 * (np.log(2) - 0.422784)), rel=0.02)


def test_one_seed_has_no_interval() -> None:
    found = paired(np.array([[1.0], [2.0]]))
    assert found.mean.tolist() == [1, 2]
    assert np.isnan(found.p_below).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_monotone_and_between_the_value_and_bonferroni(values: list[float]) -> None:
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(p * len(p), 1) + 1e-12).all()
    in_order = adjusted[np.argsort(p, kind="stable")]
    assert all(a <= b for a, b in pairwise(in_order))


def test_signs() -> None:
    assert [Estimate(*v).sign for v in ((1, 0.5, 2), (-1, -2, -0.5), (0.1, -1, 1))] == [1, -1, 0]
