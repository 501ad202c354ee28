"""spread_divergence against a plain reading of its two formulas, its laws, and the rates that it was made for."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from assessor import Plan, SettingError, assess, make_plan, profile_array
from assessor.measures.spread_divergence import location_part, scale_part
from assessor.nulls import AlikeFeatures, normal_pool, residual_pool

Floats = NDArray[np.float64]


def plain_parts(batch: list[list[float]]) -> tuple[float, float]:
    """The two parts by loops over plain numbers, features that do not vary left out."""
    columns = [list(column) for column in zip(*batch, strict=True)]
    moments = []
    for column in columns:
        m = math.fsum(column) / len(column)
        v = math.fsum((value - m) ** 2 for value in column) / len(column)
        if v > 1e-25:  # a column of 0.1 has a rounded mean
            moments.append((m, v))
    n = len(moments)
    centre = math.fsum(m for m, _ in moments) / n
    r = [v + (m - centre) ** 2 for m, v in moments]
    one, half, quarter = (math.fsum(a**power for a in r) / n for power in (1.0, 0.5, 0.25))
    # (3 q - p) / 2 of the module's text
    q, p = 4 * math.log(half / quarter**2), math.log(one / half**2)
    scale = (3 * q - p) / 2
    between = math.fsum((m - centre) ** 2 for m, _ in moments) / n
    within = math.fsum(v for _, v in moments) / n
    return scale, -math.log(1 - between / (within + between)) / 2


def plan_of(x: Floats, size: int, **options: Any) -> Plan:
    return make_plan(profile_array(x, batch_sizes=[size]), method="heterogeneity", **options)


@pytest.mark.parametrize("size", [2, 3, 8, 25])
def test_parts_against_a_plain_reading(size: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(rng.normal(0, 1, 9), rng.lognormal(0, 1, 9), size=(75, 9))
    x[:, 4] = 0.1
    x[: 2 * size, 5] = 7.0
    plan = plan_of(x, size)
    for i in range(75 // size):
        scale, location = plain_parts(x[i * size : (i + 1) * size].tolist())
        n_varying = np.array([plan.details["n_varying"][i]], dtype=np.int64)
        assert n_varying[0] == (7 if i < 2 else 8)
        # The parts differ from the plan's by the null means, which are the same for batches of as many features.
        same = [k for k in range(75 // size) if plan.details["n_varying"][k] == n_varying[0]]
        first = plain_parts(x[same[0] * size : (same[0] + 1) * size].tolist())
        assert_allclose(plan.details["scale"][i] - plan.details["scale"][same[0]], scale - first[0], atol=1e-10)
        assert_allclose(
            plan.details["location"][i] - plan.details["location"][same[0]], location - first[1], atol=1e-10
        )
    n = 75 // size
    assert_allclose(plan.scores[:n], np.maximum(plan.details["scale"], plan.details["location"])[:n])


def test_the_null_mean_is_what_alike_normal_features_show() -> None:
    x = np.random.default_rng(2).normal(size=(3000, 6, 40))
    alike = AlikeFeatures(normal_pool(), 6)
    for part in (scale_part, location_part):
        shown = part(x.mean(axis=1), x.var(axis=1))
        error = shown.std() / np.sqrt(3000)
        assert abs(alike.null(np.array([40]), part).mean(np.array([40]))[0] - shown.mean()) < 5 * error


def test_scales_that_are_log_normal_score_their_squared_log_deviation() -> None:
    """H = s^2 for log-normal(s) scales, in whatever common shape."""
    rng = np.random.default_rng(3)
    for s in (0.3, 1.0):
        z = rng.standard_normal(600)
        scales = np.exp(s * (z - z.mean()) / z.std())
        for shape in (rng.standard_normal((900, 600)), rng.laplace(size=(900, 600))):
            plan = plan_of(shape * scales, 30)
            assert_allclose(plan.details["scale"].mean(), s**2, rtol=0.06)


def test_means_spread_score_half_the_log_of_the_pooled_variance() -> None:
    rng = np.random.default_rng(4)
    z = rng.standard_normal(1000)
    plan = plan_of(rng.standard_normal((640, 1000)) + 2 * (z - z.mean()) / z.std(), 32)
    assert_allclose(plan.details["location"].mean(), np.log(1 + 4) / 2, rtol=0.02)


@settings(max_examples=25)
@given(st.integers(0, 999), st.sampled_from([1e-6, 0.3, 1e6]), st.floats(-1e4, 1e4))
def test_shift_and_scale_change_nothing(seed: int, a: float, b: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 6)) * rng.lognormal(0, 1, 6)
    assert_allclose(plan_of(a * x + a * b, 8).scores, plan_of(x, 8).scores, atol=1e-6)


@pytest.mark.parametrize("name", ["normal", "laplace", "standard_t", "standard_exponential", "pixels"])
@pytest.mark.parametrize(("size", "features"), [(8, 64), (4, 512)])
def test_unlike_features_are_found_and_alike_ones_left(name: str, size: int, features: int) -> None:
    """The targets, on 400 batches: a rate of 0.02 is passed by chance at most to 0.045, one of 0.99 down to 0.97."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(5)
    shape = (400 * size, features)
    if name == "pixels":
        x = rng.choice(load_digits().data.ravel(), shape)
    else:
        x = rng.standard_t(5, shape) if name == "standard_t" else getattr(rng, name)(size=shape)
    x = (x - x.mean()) / x.std()
    z = rng.standard_normal(features)
    z = (z - z.mean()) / z.std()
    assert plan_of(x, size).flagged_fraction <= 0.045
    assert plan_of(x * np.exp(0.5 * z), size).flagged_fraction >= 0.97
    assert plan_of(x + z, size).flagged_fraction >= 0.97


@pytest.mark.parametrize("name", ["bernoulli", "pixels", "mostly zeros"])
@pytest.mark.parametrize(("size", "features"), [(4, 512), (8, 128)])
def test_unlike_features_of_repeated_values_are_found(name: str, size: int, features: int) -> None:
    """Residuals of several features pooled found .85 of the batches with scales, 4 x 512 of mostly zeros."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(14)
    shape = (500 * size, features)
    x: Floats = (rng.random(shape) < 0.3).astype(np.float64)
    if name == "pixels":
        x = rng.choice(load_digits().data.ravel(), shape)
    elif name == "mostly zeros":
        x *= rng.standard_exponential(shape)
    z = rng.standard_normal(features)
    z = (z - z.mean()) / z.std()
    assert plan_of(x, size).flagged_fraction <= 0.045
    assert plan_of((x - x.mean()) * np.exp(0.5 * z), size).flagged_fraction >= 0.97
    assert plan_of(x + x.std() * z, size).flagged_fraction >= 0.97


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("method", ["heterogeneity", "gaussian"])
def test_alike_features_of_few_values_beside_zeros_are_left(share: float, method: str) -> None:
    """Each feature by itself, known by 128 rows and few values in them: alike batches were all flagged."""
    rng = np.random.default_rng(16)
    x = (rng.random((1000, 2048)) < share) * rng.standard_exponential((1000, 2048))
    assert make_plan(profile_array(x, batch_sizes=[8]), method=method).flagged_fraction <= 0.04


def test_constant_features_repeat_nothing() -> None:
    rng = np.random.default_rng(17)
    x = rng.laplace(size=(600, 90))
    x[:, :60] = 3.0
    assert len(residual_pool(profile_array(x, batch_sizes=[4])).begins) == 1
    # In one row that is not sampled they do vary, so that they are not left out as constant.
    sampled = profile_array(x, batch_sizes=[4], calibration_rows=200).calibration.rows
    x[np.setdiff1d(np.arange(600), sampled)[0], :60] = 4.0
    assert len(residual_pool(profile_array(x, batch_sizes=[4], calibration_rows=200)).begins) == 1


def test_a_drawn_feature_of_repeated_values_has_them_from_one_feature() -> None:
    rng = np.random.default_rng(15)
    # Each feature has another number of ones, and so two residuals of its own.
    x = rng.permuted(np.arange(600)[:, None] < 100 + 10 * np.arange(40), axis=0).astype(float)
    x[:, 0] = 7.0
    pool = residual_pool(profile_array(x * rng.lognormal(0, 1, 40), batch_sizes=[4]))
    columns = np.stack([x[:, f] for f in range(1, 40)])
    standardized = (columns - columns.mean(axis=1, keepdims=True)) / columns.std(axis=1, keepdims=True)
    assert len(pool.begins) == 39
    assert_allclose(np.sort(pool.values), np.sort(standardized.ravel()), atol=1e-9)
    drawn = pool.draw(np.arange(2000), 12)
    atoms = np.sort(standardized, axis=1)[:, [0, -1]]
    for values in drawn:
        distance = np.abs(values[:, None, None] - atoms).min(axis=2)  # of each value from each feature's two
        assert distance.max(axis=0).min() < 1e-9
    assert {len(np.unique(values)) for values in drawn} <= {1, 2}
    # Every feature is drawn about as often: 2000 / 39, some 51.
    nearest = [np.abs(values[:, None, None] - atoms).min(axis=2).max(axis=0).argmin() for values in drawn]
    assert np.bincount(nearest, minlength=39).min() > 20
    variance = AlikeFeatures(pool, 2)._variance
    assert variance.min() > 0.5, "two equal values have no variance, and are left out"


def test_undefined_and_fallbacks_are_said() -> None:
    x = np.random.default_rng(6).normal(size=(41, 6))
    plan = plan_of(x, 8)
    assert np.isnan(plan.scores[-1])
    assert not plan.normalize[-1]
    assert any("1 batches have one value per feature" in note for note in plan.notes)
    bare = make_plan(profile_array(x, batch_sizes=[8], calibration_rows=0), method="heterogeneity")
    assert any("the null is that of normal data, since there is no calibration sample" in note for note in bare.notes)
    assert_allclose(bare.scores, plan_of(x, 8, null="normal").scores)
    with pytest.raises(SettingError, match="expected null 'residual' or 'normal'; got 'other'"):
        plan_of(x, 8, null="other")
    assert np.isnan(assess(np.ones((8, 3)), batch_size=4, method="heterogeneity").scores).all()


def test_the_rule_holds_the_null_means_of_smaller_batches() -> None:
    plan = plan_of(np.random.default_rng(7).normal(size=(400, 30)), 20)
    assert plan.rule["counts"] == (2, 3, 4, 8, 16, 20)
    assert np.all(np.diff(plan.rule["scale_null"]) < 0)
    assert np.all(np.diff(plan.rule["location_null"]) < 0)


@pytest.mark.parametrize("name", ["laplace", "standard_exponential", "uniform"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["scales", "means"])
def test_two_kinds_of_batches_are_told_apart(name: str, share: float, kind: str) -> None:
    """Means in half of the batches of Laplace data flagged 59 % of the alike ones before each kind had its own null."""
    rng = np.random.default_rng(8)
    n, size, features = 500, 4, 256
    x = getattr(rng, name)(size=(n, size, features))
    x = (x - x.mean()) / x.std()
    z = rng.standard_normal(features)
    z = (z - z.mean()) / z.std()
    unlike = rng.permutation(n) < share * n
    changed = x * np.exp(0.5 * z) if kind == "scales" else x + z
    plan = plan_of(np.where(unlike[:, None, None], changed, x).reshape(-1, features), size)
    # Of 50 alike batches, 4 are flagged by chance at 2 % once in fifty times.
    assert plan.normalize[~unlike].mean() <= 0.06
    assert plan.normalize[unlike].mean() >= 0.97
    assert any("two kinds" in note for note in plan.notes)


def test_alike_batches_are_one_kind() -> None:
    plan = plan_of(np.random.default_rng(9).laplace(size=(2000, 64)), 4)
    assert not any("two kinds" in note for note in plan.notes)


def shares_found(plan: Plan) -> tuple[float, float]:
    return float(plan.details["found_scales"][0]), float(plan.details["found_means"][0])


@pytest.mark.parametrize(("size", "features"), [(4, 64), (4, 8), (8, 24)])
def test_what_is_found_is_said_and_so(size: int, features: int) -> None:
    """The shares in the plan of alike batches against those that this cutoff finds of fresh unlike batches."""
    rng = np.random.default_rng(10)
    n = 1500
    x = rng.laplace(size=(n, size, features)) / np.sqrt(2)
    plan = plan_of(x.reshape(-1, features), size)
    profile = profile_array(x.reshape(-1, features), batch_sizes=[size])
    z = rng.standard_normal((n, 1, features))
    z = (z - z.mean(axis=2, keepdims=True)) / z.std(axis=2, keepdims=True)
    found = []
    for y in (x * np.exp(z / 2), x + z):
        means, variances = y.mean(axis=1), y.var(axis=1)
        alike = AlikeFeatures(residual_pool(profile), size)
        at = np.array([features])
        parts = [part(means, variances) - alike.null(at, part).mean(at)[0] for part in (scale_part, location_part)]
        found.append(float((np.maximum(*parts) > plan.cutoffs[0]).mean()))
    assert_allclose(shares_found(plan), found, atol=0.04)
    kurtosis = float((x**4).mean() / (x**2).mean() ** 2)
    told = next(note for note in plan.notes if "the cutoff finds about" in note)
    assert f"with {size} values of each of {features} varying features" in told
    assert f"{shares_found(plan)[0]:.0%} of the batches whose scales are log-normal(0.5)" in told
    assert abs(float(told.split("kurtosis ")[1].split(",")[0]) - kurtosis) < 0.5  # from 4096 rows
    assert f"about {shares_found(plan)[0]:.0%} of the batches with scales log-normal(0.5) are found" in plan[3].reason


def test_what_is_found_is_not_said_where_all_is() -> None:
    plan = plan_of(np.random.default_rng(11).normal(size=(3200, 128)), 32)
    assert not any("the cutoff finds" in note for note in plan.notes)
    assert "found_scales" not in plan.details
    assert "are found" not in plan[0].reason
    high = plan_of(np.random.default_rng(11).normal(size=(3200, 128)), 32, threshold=9.0)
    assert shares_found(high) == (0.0, 0.0)
    low = plan_of(np.random.default_rng(11).normal(size=(3200, 128)), 32, threshold=-1.0)
    assert any("flags 100.0% of those whose features are alike" in note for note in low.notes)


def test_the_reach_survives_json() -> None:
    plan = plan_of(np.random.default_rng(12).laplace(size=(400, 8)), 4)
    assert Plan.from_json(plan.to_json())[0].reason == plan[0].reason
