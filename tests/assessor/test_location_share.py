"""location_share against the sums of squares behind scipy.stats.f_oneway, and its laws."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from scipy.stats import f_oneway

from assessor import Plan, SettingError, assess
from tests.assessor.measured import Floats, batches, mixed, varying


def plan_of(x: Floats, size: int, threshold: str = "fixed(0.5)", **options: Any) -> Plan:
    return assess(x, batch_size=size, method="location_share", threshold=threshold, **options)


def effects(batch: Floats) -> tuple[float, float]:
    """Eta and epsilon squared from F = (SS_b / (k - 1)) / (SS_w / (N - k)), with SS_t = 1."""
    k, n = batch.shape[1], batch.size
    ratio = f_oneway(*batch.T).statistic * (k - 1) / (n - k)  # SS_b / SS_w
    between = ratio / (1 + ratio)
    return between, between - (k - 1) * (1 - between) / (n - k)


@pytest.mark.parametrize("size", [2, 3, 8, 25])
def test_against_one_way_analysis_of_variance(size: int) -> None:
    x = mixed(size=size)
    expected = [effects(varying(batch)) for batch in batches(x, size) if len(batch) > 1]
    for column, corrected in enumerate((False, True)):
        plan = plan_of(x, size, corrected=corrected)
        assert_allclose(plan.scores[: len(expected)], [pair[column] for pair in expected], rtol=1e-9, atol=1e-12)
        assert plan.rule["corrected"] is corrected


@pytest.mark.parametrize("corrected", [False, True])
def test_the_null_is_the_p_value_of_the_f_test(corrected: bool) -> None:
    x = np.random.default_rng(5).normal(size=(2000 * 4, 12))
    plan = plan_of(x, 4, "null(0.05)", corrected=corrected)
    p_values = [f_oneway(*batch.T).pvalue for batch in batches(x[:400], 4)]
    assert plan.normalize[:100].tolist() == [p < 0.05 for p in p_values]
    assert abs(plan.flagged_fraction - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_epsilon_squared_of_alike_features_is_zero_in_the_mean() -> None:
    scores = plan_of(np.random.default_rng(6).normal(size=(12_000, 20)), 3, corrected=True).scores
    assert abs(scores.mean()) < 4.5 * scores.std() / np.sqrt(len(scores))
    assert scores.min() < 0


@settings(max_examples=25)
@given(st.integers(0, 999), st.sampled_from([1e-6, 0.3, 1e6]), st.floats(-1e4, 1e4))
def test_within_zero_and_one_and_the_same_under_shift_and_scale(seed: int, a: float, b: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(24, 6)) + rng.normal(0, rng.lognormal(0, 3), 6)
    scores = plan_of(x, 8).scores
    assert ((scores >= 0) & (scores <= 1)).all()
    assert_allclose(plan_of(a * x + a * b, 8).scores, scores, atol=1e-7)


def test_edges() -> None:
    column = np.random.default_rng(7).normal(size=(9, 1))
    plan = plan_of(column, 8, "null(0.01)")
    assert plan.scores[0] == 0
    assert np.isnan(plan.scores[1])
    assert not plan.normalize.any()
    assert np.isnan(plan_of(np.ones((8, 3)), 4).scores).all()
    assert "between the means of its 1 varying features" in plan[0].reason
    with pytest.raises(SettingError, match="expected corrected=True or False; got 'yes'"):
        plan_of(column, 8, corrected="yes")
