"""scale_dispersion against scipy.stats.variation, and its laws."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from scipy.stats import variation

from assessor import Plan, assess
from tests.assessor.measured import Floats, batches, mixed, varying


def plan_of(x: Floats, size: int) -> Plan:
    return assess(x, batch_size=size, method="scale_dispersion", threshold="fixed(0.5)")


@pytest.mark.parametrize("size", [2, 3, 8, 25])
def test_against_scipy(size: int) -> None:
    x = mixed(size=size)
    plan = plan_of(x, size)
    expected = [variation(varying(batch).std(axis=0)) for batch in batches(x, size) if len(batch) > 1]
    assert_allclose(plan.scores[: len(expected)], expected, rtol=1e-11)
    assert plan.details["n_varying"].tolist()[:3] == [7, 7, 8]
    assert any("features constant within a batch are left out" in note for note in plan.notes)


def test_means_far_apart_take_no_digits() -> None:
    x = np.random.default_rng(1).normal(size=(40, 6))
    far = x + np.arange(6) * 2.0**17
    expected = [variation(batch.std(axis=0)) for batch in batches(far, 8)]
    assert_allclose(plan_of(far, 8).scores, expected, rtol=1e-10)


def test_log_normal_scales_have_the_dispersion_of_the_log_normal() -> None:
    """CV^2 of a log-normal(s) is exp(s^2) - 1."""
    z = np.random.default_rng(2).standard_normal(2000)
    scales = np.exp(0.5 * (z - z.mean()) / z.std())
    x = np.random.default_rng(3).normal(size=(1000, 2000)) * scales
    assert_allclose(plan_of(x, 500).scores, np.sqrt(np.expm1(0.25)), rtol=0.05)


@settings(max_examples=25)
@given(st.integers(0, 999), st.sampled_from([1e-6, 0.3, 1e6]), st.floats(-1e3, 1e3))
def test_a_common_scale_and_any_shift_change_nothing(seed: int, a: float, b: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(24, 6)) * rng.lognormal(0, 1, 6)
    assert_allclose(plan_of(a * (x + b * np.arange(6)), 8).scores, plan_of(x, 8).scores, rtol=1e-7)


def test_equal_scales_score_nothing_and_undefined_ones_nan() -> None:
    column = np.random.default_rng(4).normal(size=(16, 1))
    assert (plan_of(np.repeat(column, 5, axis=1), 8).scores < 1e-7).all()
    assert_allclose(plan_of(column, 8).scores, 0, atol=1e-7)
    plan = plan_of(np.concatenate([np.ones((8, 3)), column[:9] * np.ones(3)]), 8)
    assert np.isnan(plan.scores).tolist() == [True, False, True]
    assert any("2 batches have one value per feature or too few" in note for note in plan.notes)
    assert "the scales of its 3 varying features" in plan[1].reason
