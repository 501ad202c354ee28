"""bartlett against scipy.stats.bartlett batch by batch, and its null."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from numpy.testing import assert_allclose

from assessor import Plan, assess
from tests.assessor.measured import Floats, batches, mixed, varying


def plan_of(x: Floats, size: int, threshold: str = "null(0.01)") -> Plan:
    return assess(x, batch_size=size, method="bartlett", threshold=threshold)


@pytest.mark.parametrize("size", [2, 3, 8, 25])
def test_against_scipy(size: int) -> None:
    x = mixed(size=size)
    plan = plan_of(x, size)
    expected = [scipy.stats.bartlett(*varying(batch).T) for batch in batches(x, size) if len(batch) > 1]
    assert_allclose(plan.scores[: len(expected)], [result.statistic for result in expected], rtol=1e-9)
    assert_allclose(plan.details["p_value"][: len(expected)], [result.pvalue for result in expected], rtol=1e-8)
    assert plan.normalize.tolist()[: len(expected)] == [result.pvalue < 0.01 for result in expected]


def test_means_far_apart_take_no_digits() -> None:
    x = np.random.default_rng(1).normal(size=(40, 6))
    far = x + np.arange(6) * 2.0**17
    expected = [scipy.stats.bartlett(*batch.T).statistic for batch in batches(far, 8)]
    assert_allclose(plan_of(far, 8).scores, expected, rtol=1e-9)


def test_channels_count_all_their_positions() -> None:
    x = np.random.default_rng(2).normal(size=(12, 3, 5)) * np.array([1, 2, 3])[:, None]
    plan = assess(x, batch_size=4, method="bartlett", threshold="null(0.01)", feature_axis="channel")
    for i in range(3):
        groups = x[4 * i : 4 * i + 4].transpose(1, 0, 2).reshape(3, -1)
        assert_allclose(plan.scores[i], scipy.stats.bartlett(*groups).statistic, rtol=1e-9)


def test_equal_variances_of_normal_features_are_flagged_at_the_level() -> None:
    plan = plan_of(np.random.default_rng(3).normal(size=(16_000, 20)), 8, "null(0.05)")
    assert abs(plan.flagged_fraction - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


@settings(max_examples=25)
@given(st.integers(0, 999), st.sampled_from([1e-6, 0.3, 1e6]), st.floats(-1e3, 1e3))
def test_a_common_scale_and_any_shift_change_nothing(seed: int, a: float, b: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(24, 6)) * rng.lognormal(0, 1, 6)
    assert_allclose(plan_of(a * (x + b * np.arange(6)), 8).scores, plan_of(x, 8).scores, rtol=1e-7, atol=1e-9)


def test_edges() -> None:
    column = np.random.default_rng(4).normal(size=(17, 1))
    assert np.isnan(plan_of(column, 8).scores).all()
    plan = plan_of(np.repeat(column, 5, axis=1), 8)
    assert_allclose(plan.scores[:2], 0, atol=1e-12)
    assert_allclose(plan.details["p_value"][:2], 1)
    assert np.isnan([plan.scores[2], plan.details["p_value"][2]]).all()
    assert "equal variances of its 5 varying features have p = 1 for normal data" in plan[0].reason
