from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.stats import chi2

from assessor import Plan, SettingError, assess, make_plan, normal_divergence, profile_array
from assessor.measures.gaussian_divergence import _divergence
from assessor.nulls import MAX_COUNT, MAX_WIDTH, AlikeFeatures, Null, Pool, residual_pool
from tests.assessor import reference
from tests.tolerances import NATS, Z

Floats = NDArray[np.float64]
RNG = np.random.default_rng(61)


def profile_and_plan(x: Floats, size: int, **options: Any) -> Plan:
    return make_plan(profile_array(x, batch_sizes=[size]), method="gaussian", **options)


def draw_null(pool: Floats, count: int, n_features: NDArray[np.int64]) -> Null:
    return AlikeFeatures(Pool.whole(pool), count).null(n_features, _divergence)


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16, 50])
@pytest.mark.parametrize("coarse", [False, True])
def test_divergence_against_a_plain_reading(size: int, coarse: bool) -> None:
    x = RNG.normal(RNG.normal(0, 2, 9), RNG.lognormal(0, 1, 9), size=(50, 9))
    x[:, 4] = 3.3
    if coarse:
        x[:, :3] = np.round(x[:, :3] / 4)
    plan = profile_and_plan(x, size, null="normal")
    for i, batch in enumerate(reference.batches(x.tolist(), size)):
        varying = sum(reference.variance(column) > 0 for column in reference.columns(batch))
        assert plan.details["n_varying"][i] == varying
        if len(batch) > 1:
            h = reference.heterogeneity(batch)
            assert_allclose(plan.details["divergence"][i], h, rtol=1e-9, atol=NATS)
            expected = h - reference.normal_divergence(len(batch), varying)
            assert_allclose(plan.scores[i], expected, rtol=1e-9, atol=NATS)
    assert "features constant within a batch are left out" in " ".join(plan.notes)


def test_by_hand() -> None:
    """Features (0, 2) and (-3, 3): v = 1 and 9, means 1 and 0, V = 5 + 1/4; H = (ln 5.25 - ln 9 / 2) / 2."""
    plan = profile_and_plan(np.array([[0.0, -3.0], [2.0, 3.0]]), 2, null="normal")
    assert_allclose(plan.details["divergence"], [(np.log(5.25) - np.log(9) / 2) / 2], rtol=1e-14)
    # E0 = (psi(3/2) - ln 4 - psi(1/2) + ln 2) / 2 = (2 - ln 2) / 2
    assert_allclose(plan.scores, plan.details["divergence"] - (2 - np.log(2)) / 2, rtol=1e-13)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(-1e3, 1e3).filter(lambda a: abs(a) > 1e-3),
    st.floats(-1e4, 1e4),
    st.integers(2, 12),
    st.sampled_from(["normal", "residual"]),
)
def test_shift_and_scale_change_nothing(seed: int, a: float, b: float, size: int, null: str) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 1, 6), rng.lognormal(0, 0.5, 6), size=(24, 6))
    one, two = profile_and_plan(x, size, null=null), profile_and_plan(a * x + b, size, null=null)
    # Rounding of b enters variances of size (a s)^2
    assume(abs(b / a) < 1e5)
    assert_allclose(two.details["divergence"], one.details["divergence"], atol=1e-7)
    assert_allclose(two.scores, one.scores, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(1, 8))
def test_the_divergence_is_not_negative_and_zero_for_alike_features(seed: int, size: int, f: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, f)) * rng.lognormal(0, 2, f)
    assert profile_and_plan(x, size, null="normal").details["divergence"][0] >= -1e-12
    same = np.repeat(x[:, :1], f, axis=1)
    assert abs(profile_and_plan(same, size, null="normal").details["divergence"][0]) < 1e-12


SHAPES: dict[str, Any] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, size=shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape),
    "t5": lambda rng, shape: rng.standard_t(5, size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
}

FOUND = {
    # FORMULAS 2.3, residual null at 1 %, log-normal(0.5) scales
    (4, 512): {"normal": 1.00, "laplace": 1.00, "t5": 1.00, "exponential": 1.00},
    (8, 64): {"normal": 0.997, "laplace": 0.999, "t5": 0.95, "exponential": 1.00},
    (4, 64): {"normal": 1.00, "laplace": 0.93, "t5": 0.49, "exponential": 0.90},
}


def share_flagged(shape: str, size: int, f: int, spread: float, batches: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    x = SHAPES[shape](rng, (size * batches, f)) * rng.lognormal(0, spread, f) + 3
    return profile_and_plan(x, size, threshold="null(0.01)").flagged_fraction


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize(("size", "f"), [(4, 512), (8, 64), (4, 64)])
def test_alike_features_are_seldom_flagged(shape: str, size: int, f: int) -> None:
    """At most about 2 %; 2 % of 400 batches is 8, and 3.5 standard errors above it 4.4 %."""
    assert share_flagged(shape, size, f, 0.0, 400, 71 + size + f) < 0.02 + 3.5 * np.sqrt(0.02 / 400)


@pytest.mark.parametrize(("size", "f"), list(FOUND))
@pytest.mark.parametrize("shape", ["normal", "laplace", "t5", "exponential"])
def test_different_scales_are_found_at_the_rates_of_the_study(size: int, f: int, shape: str) -> None:
    """At most 4.5 standard errors below the rate of FORMULAS 2.3, and a little for scales that are drawn anew."""
    rate = FOUND[size, f][shape]
    found = np.mean([share_flagged(shape, size, f, 0.5, 100, seed) for seed in (1, 2, 3)])
    error = np.sqrt(max(rate * (1 - rate), 0.01) / 300)
    assert found > rate - Z * error - (0.15 if rate < 0.8 else 0.02)


def test_the_method_flags_differences_that_matter_only() -> None:
    rng = np.random.default_rng(7)
    alike, slight = rng.normal(size=(640, 64)), rng.normal(size=(640, 64)) * rng.lognormal(0, 0.15, 64)
    strong = rng.normal(size=(640, 64)) * rng.lognormal(0, 1, 64)
    assert profile_and_plan(alike * 100 + 5, 32).flagged_fraction == 0
    assert profile_and_plan(slight, 32, threshold="null(0.01)").flagged_fraction == 1
    assert profile_and_plan(slight, 32).flagged_fraction == 0
    assert profile_and_plan(strong, 32).flagged_fraction == 1


@pytest.mark.parametrize(("size", "f"), [(4, 64), (16, 200)])
def test_the_residual_null_of_normal_data_is_the_closed_form(size: int, f: int) -> None:
    pool = np.random.default_rng(8).normal(size=200_000)
    null = draw_null(pool, size, np.array([f]))
    draws = null.draws[0]
    # Draws share 20,000 simulated features, so their mean is known to no better than those allow.
    error = np.sqrt(draws.var() / len(draws) + draws.var() * f / 20_000)
    assert abs(float(null.mean(np.array([f]))[0]) - float(normal_divergence(size, f))) < Z * error
    x = np.random.default_rng(9).normal(size=(4000, size, f))
    h = (np.log(x.reshape(4000, -1).var(axis=1)) - np.log(x.var(axis=1)).mean(axis=1)) / 2
    for alpha in (0.5, 0.1, 0.01):
        assert_allclose(null.quantile(np.array([f]), alpha)[0], np.quantile(h, 1 - alpha), atol=0.25 * h.std())
        assert (h > null.quantile(np.array([f]), alpha)[0]).mean() == pytest.approx(alpha, abs=0.2 * alpha**0.5)


def test_the_null_is_the_same_every_time() -> None:
    pool = np.random.default_rng(8).normal(size=5000)
    one, two = (draw_null(pool, 4, np.array([7, 30, 64])) for _ in range(2))
    for a, b in zip(one.draws, two.draws, strict=True):
        assert_array_equal(a, b)
    assert one.n_features.tolist() == [7, 30, 64]


def test_null_quantiles_of_the_closed_form() -> None:
    """null="normal": the quantile against simulation."""
    x = np.random.default_rng(3).normal(size=(4000, 8, 64))
    plan = profile_and_plan(x.reshape(-1, 64), 8, null="normal", threshold="null(0.05)")
    assert plan.flagged_fraction == pytest.approx(0.05, abs=0.02)


def test_large_batches_and_wide_data_are_drawn_in_bounded_memory() -> None:
    """Channels of 50,176 positions in a batch of 32 once asked for 512 x 1.6 million draws."""
    import tracemalloc

    pool = np.random.default_rng(8).normal(size=20_000)
    tracemalloc.start()
    try:
        null = draw_null(pool, 32 * 224 * 224, np.array([3, 64, 3 * MAX_WIDTH]))
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    # H of n normal values is about chi2 with F - 1 degrees of freedom over 2 n, twice over (mean and variance)
    assert 0 < null.draws[0].mean() < 1e-4


@pytest.mark.parametrize("count", [MAX_COUNT * 4, MAX_COUNT * 64])
def test_the_null_beyond_the_largest_count_drawn(count: int) -> None:
    """For large n, H is about (chi2(F-1)/2 + chi2(F-1)) / (2 n F): means and variances of alike features."""
    f = 16
    null = draw_null(np.random.default_rng(8).normal(size=100_000), count, np.array([f]))
    expected = float(normal_divergence(count, f))
    assert_allclose(null.mean(np.array([f])), expected, rtol=0.1)
    assert null.quantile(np.array([f]), 0.01)[0] < chi2.ppf(0.999, 2 * f) / count


def test_without_a_calibration_sample_the_closed_form_is_taken_and_the_plan_says_so() -> None:
    x = RNG.normal(size=(40, 6))
    profile = profile_array(x, batch_sizes=[8], calibration_rows=0)
    plan = make_plan(profile, method="gaussian")
    assert "the null is the closed form for normal data, since there is no calibration sample" in plan.notes
    assert_array_equal(plan.scores, make_plan(profile, method="gaussian", null="normal").scores)
    assert residual_pool(profile).values.size == 0
    with_sample = make_plan(profile_array(x, batch_sizes=[8]), method="gaussian")
    assert not any("closed form" in note for note in with_sample.notes)


def test_residuals_are_standardized_by_feature() -> None:
    x = RNG.normal([1.0, -50.0, 0.0], [1.0, 20.0, 0.0], size=(500, 3))
    pool = residual_pool(profile_array(x, batch_sizes=[8], calibration_rows=1000)).values
    assert pool.shape == (1000,), "the constant feature is left out"
    expected = (x[:, :2] - x[:, :2].mean(axis=0)) / x[:, :2].std(axis=0)
    assert_allclose(np.sort(pool), np.sort(expected.ravel()), atol=1e-12)


def test_undefined_batches() -> None:
    ones = profile_and_plan(RNG.normal(size=(5, 4)), 1)
    assert np.isnan(ones.scores).all()
    assert ones.flagged_fraction == 0
    assert "their score is undefined" in " ".join(ones.notes)
    constant = profile_and_plan(np.full((6, 4), 0.3), 3)
    assert np.isnan(constant.scores).all()
    assert constant.action == "unknown"
    some = np.concatenate([RNG.normal(size=(8, 4)), np.ones((4, 4)), RNG.normal(size=(1, 4))])
    plan = profile_and_plan(some, 4)
    assert np.isnan(plan.scores).tolist() == [False, False, True, True]


def test_one_feature_is_like_itself() -> None:
    plan = profile_and_plan(RNG.normal(size=(60, 1)), 6)
    assert_allclose(plan.scores, 0, atol=1e-12)


def test_batches_with_different_numbers_of_varying_features_have_their_own_cutoffs() -> None:
    x = RNG.normal(size=(400, 12))
    x[:200, 4:] = 1.0
    plan = profile_and_plan(x, 4, threshold="null(0.01)")
    assert len(set(plan.cutoffs.tolist())) == 2
    assert plan.cutoffs[0] > plan.cutoffs[-1], "fewer features, a wider null"
    assert "cutoffs differ with the number of features that vary" in plan.notes


@pytest.mark.parametrize("null", ["other", None, 1, ["normal"]])
def test_another_null_is_refused(null: Any) -> None:
    with pytest.raises(SettingError, match="expected null 'residual' or 'normal'; got"):
        assess(np.eye(4), batch_size=2, method="gaussian", null=null)
