from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from assessor import Plan, assess, make_plan, merge, noise, profile_array
from tests.assessor import reference
from tests.tolerances import NATS, Z

Floats = NDArray[np.float64]
RNG = np.random.default_rng(51)
DIGITS: Floats = np.asarray(load_digits(return_X_y=True)[0][:203])

VARYING = RNG.normal(RNG.normal(0, 2, 7), RNG.lognormal(0, 1, 7), size=(53, 7))
WITH_CONSTANTS = np.concatenate(
    [
        RNG.normal(1, 2, size=(53, 3)),
        RNG.integers(0, 2, size=(53, 3)) * 3.0,  # constant in some batches
        (RNG.random((53, 2)) < 0.05) * 1.0,  # constant in most
        np.full((53, 2), 0.1),  # constant over the dataset
    ],
    axis=1,
)


def check(plan: Plan, x: Floats, size: int) -> None:
    """Scores and decomposition against the plain reading; the parts sum to the mean score."""
    wanted = reference.Need(x.tolist(), size)
    assert_allclose(plan.scores, wanted.scores()[: len(plan)], rtol=1e-9, atol=NATS)
    if not wanted.complete or size < 2:
        assert plan.decomposition is None
        return
    assert plan.decomposition is not None
    assert list(plan.decomposition) == ["global", "feature", "drift", "noise"]
    for name, value in wanted.decomposition().items():
        assert_allclose(plan.decomposition[name], value, rtol=1e-9, atol=NATS, err_msg=name)
    parts = plan.decomposition
    complete = plan.scores[: len(x) // size]
    assert_allclose(parts["global"] + parts["feature"] + parts["drift"], complete.mean(), rtol=1e-10, atol=1e-10)
    with_noise = complete.mean() + noise(size)
    assert_allclose(sum(parts.values()), with_noise, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16, 52, 53])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_against_a_plain_reading_where_all_features_vary(size: int, offset: float) -> None:
    x = VARYING + offset
    plan = assess(x, batch_size=size)
    check(plan, x, size)
    for i, batch in enumerate(reference.batches(x.tolist(), size)):
        if len(batch) > 1:
            expected = reference.divergence_from_standard(batch) - reference.noise(len(batch))
            assert_allclose(plan.scores[i], expected, rtol=1e-9, atol=NATS)


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16, 52, 53, 60])
def test_features_constant_in_a_batch_or_over_the_dataset(size: int) -> None:
    """As the module's docstring says; with no complete batch, features constant in the one batch are left out."""
    check(assess(WITH_CONSTANTS, batch_size=size), WITH_CONSTANTS, size)


@pytest.mark.parametrize("size", [4, 32])
def test_on_digits(size: int) -> None:
    for x in (DIGITS, DIGITS * np.exp(RNG.normal(0, 1, 64)), (DIGITS - DIGITS.mean()) / DIGITS.std()):
        check(assess(x, batch_size=size), x, size)


def test_a_kl_divergence_by_numerical_integration() -> None:
    """D of one feature is KL( N(m, v) || N(0, 1) ), integrated on a grid."""
    x = np.array([[0.5], [1.5], [3.0], [2.0]])
    m, s = float(x.mean()), float(x.std())
    grid = np.linspace(m - 12 * s, m + 12 * s, 200_001)
    p = np.exp(-(((grid - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
    log_ratio = -(((grid - m) / s) ** 2) / 2 - np.log(s) + grid**2 / 2
    expected = float(np.trapezoid(p * log_ratio, grid)) - reference.noise(4)
    assert_allclose(assess(x, batch_size=4).scores, [expected], rtol=1e-8)


def test_by_hand() -> None:
    """Two features of a batch of 2: (0, 2) has m = 1, v = 1; (-3, 3) has m = 0, v = 9."""
    plan = assess([[0.0, -3.0], [2.0, 3.0]], batch_size=2)
    expected = ((1 + 1 - 1 - 0) / 2 + (9 + 0 - 1 - np.log(9)) / 2) / 2 - 0.9817551  # noise(2) = (gamma + ln 4) / 2
    assert_allclose(plan.scores, [expected], atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1e6, -50.0]),
    st.booleans(),
)
def test_the_parts_sum_to_the_mean_score(n: int, f: int, size: int, seed: int, offset: float, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 3, f), rng.lognormal(0, 2, f), size=(n, f))
    x = (np.round(x) if coarse else x) + offset
    plan = assess(x, batch_size=size)
    whole = n // size
    if plan.decomposition is None:
        assert size < 2 or whole == 0 or np.isnan(plan.scores).all()
        return
    parts = plan.decomposition
    total = parts["global"] + parts["feature"] + parts["drift"]
    assert_allclose(total, plan.scores[:whole].mean(), rtol=1e-10, atol=1e-9)
    assert parts["feature"] >= -1e-12  # Jensen
    assert parts["noise"] == pytest.approx(reference.noise(size), rel=1e-12)


def test_channels_are_features_and_positions_count_as_samples() -> None:
    x = RNG.normal([[3.0], [0.0]], [[0.5], [2.0]], size=(21, 2, 5))
    plan = assess(x, batch_size=4, feature_axis="channel")
    rows = x.transpose(0, 2, 1).reshape(-1, 2)  # 20 values of each channel in a batch of 4
    expected = reference.Need(rows.tolist(), 20)
    assert_allclose(plan.scores, expected.scores(), rtol=1e-9, atol=NATS)
    assert plan.decomposition is not None
    assert_allclose(list(plan.decomposition.values()), list(expected.decomposition().values()), atol=NATS)


def test_standard_normal_data_scores_zero_on_average() -> None:
    """E[D] = noise(B) for N(0, 1), since E[v + m^2] = 1; so the mean score vanishes, at B = 2 too."""
    for size in (2, 4, 16):
        scores = assess(np.random.default_rng(size).normal(size=(size * 3000, 20)), batch_size=size).scores
        assert abs(scores.mean()) < Z * scores.std() / np.sqrt(len(scores))


def test_drift_is_zero_for_alike_batches_and_large_for_mixed_sources() -> None:
    rng = np.random.default_rng(5)
    alike = assess(rng.normal(5, 3, size=(4000, 30)), batch_size=8).decomposition
    assert alike is not None
    assert abs(alike["drift"]) < 0.01
    assert_allclose(alike["global"], (9 + 25 - 1 - np.log(9)) / 2, rtol=0.02)
    two = rng.normal(size=(4000, 30)).reshape(500, 8, 30)
    two[::2] *= 30
    mixed = assess(two.reshape(4000, 30), batch_size=8).decomposition
    assert mixed is not None
    # V = (1 + 900) / 2: half the batches are at variance 1, half at 900
    assert_allclose(mixed["drift"], (np.log(450.5) - np.log(900) / 2) / 2, rtol=0.02)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [8, 9, 10, 11, 12])
def test_ragged_last_batch(n: int, drop_last: bool) -> None:
    x = VARYING[:n]
    plan = assess(x, batch_size=4, drop_last=drop_last)
    assert len(plan) == n // 4 + (n % 4 > 0 and not drop_last)
    check(plan, x, 4)
    assert np.isnan(plan.scores).tolist() == [False] * (n // 4) + ([n % 4 == 1] if len(plan) > n // 4 else [])
    if n % 4 == 1 and not drop_last:
        assert "score is undefined" in " ".join(plan.notes)
        assert not plan[len(plan) - 1].normalize


def test_batches_of_one_are_undefined() -> None:
    plan = assess(VARYING, batch_size=1)
    assert np.isnan(plan.scores).all()
    assert plan.flagged_fraction == 0
    assert plan.action == "unknown"
    assert plan.decomposition is None
    assert "one value per feature" in plan.notes[-1]
    assert "undefined" in plan[0].reason
    several = assess(VARYING.reshape(53, 1, 7), batch_size=1, feature_axis="channel")
    assert np.isfinite(several.scores).all(), "one sample of seven positions has a variance"


def test_a_batch_larger_than_the_dataset() -> None:
    plan = assess(VARYING[:10], batch_size=64)
    assert_allclose(plan.scores, reference.Need(VARYING[:10].tolist(), 64).scores(), rtol=1e-9)
    assert plan.decomposition is None


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_data_that_does_not_vary(value: float) -> None:
    plan = assess(np.full((10, 3), value), batch_size=4)
    assert np.isnan(plan.scores).all()
    assert plan.notes == ("no feature varies over the dataset: every score is undefined",)
    assert plan.decomposition is None
    assert plan.action == "unknown"


def test_a_large_constant_feature_leaves_the_scores_alone() -> None:
    """A time stamp of 1.7e12 squares to 3e24, where float64 steps by 5e8: taking it off again must leave the rest."""
    base = assess(WITH_CONSTANTS, batch_size=4).scores
    for constant in (1.7e9, 1.7e12, 1e15):
        x = np.concatenate([WITH_CONSTANTS, np.full((53, 2), constant)], axis=1)
        assert_allclose(assess(x, batch_size=4).scores, base, rtol=1e-9, atol=NATS)


@pytest.mark.parametrize("tail", [[5.0, 9.0], [7.0, 7.0], [5.0, 1e6]])
def test_a_feature_that_first_varies_in_the_last_smaller_batch_is_left_out_there_too(tail: list[float]) -> None:
    x = VARYING[:10].copy()
    x[:8, 2], x[8:, 2] = 5.0, tail
    check(assess(x, batch_size=4), x, 4)


def test_batches_of_constants_are_scored_by_their_means() -> None:
    """Two features, each constant in every batch: ln v_f is imputed, v_f = 0, m_f counts."""
    x = np.repeat([[0.0, 5.0], [2.0, 5.0], [4.0, 8.0]], 2, axis=0)
    check(assess(x, batch_size=2), x, 2)


def test_notes_count_what_was_left_out() -> None:
    notes = " ".join(assess(WITH_CONSTANTS, batch_size=4).notes)
    assert "2 of 10 features are constant over the dataset and left out" in notes
    wanted = reference.Need(WITH_CONSTANTS.tolist(), 4)
    pairs = sum(
        reference.variance(reference.columns(batch)[f]) == 0 for batch in wanted.complete for f in wanted.active
    )
    share = pairs / (len(wanted.active) * len(wanted.complete))
    assert f"{share:.1%} of the (batch, feature) pairs are constant within the batch" in notes
    assert assess(VARYING, batch_size=4, drop_last=True).notes == ()


def test_the_plan_is_the_same_from_shards() -> None:
    cuts = [0, 1, 10, 29, 53]
    parts = [profile_array(WITH_CONSTANTS[a:b], batch_sizes=[4], first_row=a) for a, b in pairwise(cuts)]
    for method in ("need", "heterogeneity"):
        merged = make_plan(merge(parts[::-1]), method=method)
        assert merged.to_json() == assess(WITH_CONSTANTS, batch_size=4, method=method).to_json()


@pytest.mark.parametrize("size", [4, 8, 32])
@pytest.mark.parametrize("kind", ["blank", "seldom", "counts", "one value"])
def test_features_that_hardly_vary_do_not_decide(kind: str, size: int) -> None:
    rng = np.random.default_rng(4)
    n, features = 1024, 64
    x = rng.normal(size=(n, features))
    second = np.arange(n) // 32 % 2 == 1
    x[second] = 3 * x[second] + 2
    if kind == "blank":
        added = np.full((n, 3 * features), 0.3)
    elif kind == "seldom":  # in one row of fifty
        added = rng.normal(size=(n, features)) * (rng.random((n, features)) < 0.02)
    elif kind == "counts":
        added = rng.poisson(0.1, (n, features)).astype(np.float64)
    else:  # bright in one source only: constant in every batch of the other
        added = np.where(second[:, None], rng.integers(0, 2, (n, features)), 0).astype(np.float64)
    varies = added.std(axis=0) > 0
    added[:, varies] = (added[:, varies] - added[:, varies].mean(axis=0)) / added[:, varies].std(axis=0)
    without = assess(x, batch_size=size).normalize
    assert_array_equal(without, second[::size])
    assert_array_equal(assess(np.hstack([x, added]), batch_size=size).normalize, without)


@pytest.mark.parametrize("size", [4, 16])
def test_a_feature_that_varies_in_one_row_adds_at_most_its_share(size: int) -> None:
    rng = np.random.default_rng(5)
    n, features = 800, 50
    x = rng.normal(size=(n, features))
    plain = assess(x, batch_size=size).scores
    lit = np.zeros((n, 1))
    lit[n // 2] = 1
    lit = (lit - lit.mean()) / lit.std()
    more = assess(np.hstack([x, lit]), batch_size=size).scores
    there = n // 2 // size
    others = np.delete(np.arange(n // size), there)
    assert_allclose(more[others], plain[others] * features / (features + 1), atol=0.05)
    # v + m^2 of that feature is n / size; its ln v takes off the little that is left.
    limit = n / (2 * size * (features + 1))
    assert 0.8 * limit < more[there] - plain[there] < limit
