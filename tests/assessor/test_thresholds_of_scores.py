"""Cutoffs from the scores, against NumPy, SciPy, scikit-learn and a plain reading of Otsu's paper."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from numpy.testing import assert_allclose
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from assessor import Scores, SettingError
from assessor.thresholds import parse_threshold, two_groups
from tests.assessor.measured import Floats

RNG = np.random.default_rng(51)
TWO_KINDS = np.concatenate([RNG.normal(0, 1, 300), RNG.normal(8, 2, 100)])
SKEWED = RNG.lognormal(0, 1, 500)
FROM_SCORES = ["mean()", "mean_std(2)", "median_mad(3)", "quantile(0.9)", "otsu()", "kmeans()", "gaussian_mixture()"]

Values = st.lists(st.integers(-50, 50), min_size=1, max_size=40).map(lambda values: np.array(values, np.float64))


def cutoff(text: str, values: Any) -> float:
    scores = Scores(values=np.asarray(values, np.float64), details={}, rule={"measure": "some"})
    got = parse_threshold(text)[1](scores)
    assert isinstance(got, float)
    return got


def flagged(text: str, values: Any) -> list[bool]:
    at = cutoff(text, values)
    return [bool(value > at) for value in np.asarray(values, np.float64)]


def between_classes(values: Floats, level: float) -> float:
    """w0 w1 (mu1 - mu0)^2 (equation 14) of the split at `level`, each class over its own scores."""
    lower, upper = [v for v in values.tolist() if v <= level], [v for v in values.tolist() if v > level]
    w0, w1 = len(lower) / len(values), len(upper) / len(values)
    return w0 * w1 * (math.fsum(upper) / len(upper) - math.fsum(lower) / len(lower)) ** 2


@pytest.mark.parametrize("values", [TWO_KINDS, SKEWED, [3.0, 1.0, 2.0], [1.0, 1.0, 5.0]])
def test_centres_and_quantiles(values: Any) -> None:
    x = np.asarray(values)
    assert_allclose(cutoff("mean()", x), math.fsum(x) / len(x), rtol=1e-14)
    assert_allclose(cutoff("mean_std(-1.5)", x), x.mean() - 1.5 * x.std(), rtol=1e-12)
    spread = scipy.stats.median_abs_deviation(x, scale="normal")
    assert_allclose(cutoff("median_mad(2.5)", x), np.median(x) + 2.5 * spread, rtol=1e-12)
    for q in (0, 0.25, 0.9, 1):
        assert cutoff(f"quantile({q})", x) == np.quantile(x, q)
    assert not any(flagged("quantile(1)", x))


@settings(max_examples=60)
@given(Values.filter(lambda values: len(set(values)) > 1))
def test_otsu_against_the_paper(values: Floats) -> None:
    """The split is the best one, or one as good: -33, -11, -5, 1, 23 has two."""
    got = cutoff("otsu()", values)
    levels = sorted(set(values.tolist()))
    best = max(between_classes(values, level) for level in levels[:-1])
    assert between_classes(values, got) >= best * (1 - 1e-9)
    below = max(level for level in levels if level <= got)
    above = min(level for level in levels if level > got)
    assert_allclose(got, (below + above) / 2, atol=1e-12)
    assert flagged("otsu()", values) == (values > got).tolist()


@pytest.mark.parametrize("values", [np.array([1.0, -5, -11, 23, -33]), np.array([0.0, 1])])
def test_otsu_where_two_splits_are_as_good(values: Floats) -> None:
    best = max(between_classes(values, level) for level in sorted(values.tolist())[:-1])
    assert_allclose(between_classes(values, cutoff("otsu()", values)), best, rtol=1e-12)


@pytest.mark.parametrize("values", [TWO_KINDS, SKEWED[:100], np.array([1.0, 1, 1, 9])])
def test_kmeans_against_scikit_learn_and_otsu(values: Floats) -> None:
    labels = KMeans(2, n_init=10, random_state=3).fit_predict(values[:, None])
    upper = labels == labels[np.argmax(values)]
    assert flagged("kmeans()", values) == upper.tolist()
    assert cutoff("kmeans()", values) == pytest.approx(cutoff("otsu()", values))


def test_gaussian_mixture_against_scikit_learn() -> None:
    """Between the two means, the cutoff divides the scores as the fitted components' own predictions do."""
    model = GaussianMixture(2, random_state=3).fit(TWO_KINDS[:, None])
    upper = model.predict(TWO_KINDS[:, None]) == np.argmax(model.means_[:, 0])
    between = (model.means_.min() < TWO_KINDS) & (model.means_.max() > TWO_KINDS)
    got = cutoff("gaussian_mixture()", TWO_KINDS)
    assert ((got < TWO_KINDS) == upper)[between].mean() > 0.99
    step = 1e-6
    shares = model.predict_proba(np.array([[got - step], [got + step]]))
    assert_allclose(shares, 0.5, atol=0.05)


def test_one_component_may_be_the_likelier_all_the_way() -> None:
    crossing = two_groups._crossing
    assert crossing(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.999, 0.001])) == 0.5
    assert crossing(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.001, 0.999])) == 0.5
    assert_allclose(crossing(np.array([0.0, 1.0]), np.array([0.04, 0.04]), np.array([0.5, 0.5])), 0.5)


@pytest.mark.parametrize("text", FROM_SCORES)
@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.7, 1e300, 0.0])
@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_one_score_repeated_flags_nothing(text: str, value: float, n: int) -> None:
    """The rounded mean of ten times 0.1 is below 0.1, which would flag all."""
    assert cutoff(text, [value] * n) == value


@pytest.mark.parametrize("text", FROM_SCORES)
def test_undefined_and_infinite_scores_do_not_count(text: str) -> None:
    some = [math.nan, *TWO_KINDS, math.inf, math.nan, -math.inf]
    assert cutoff(text, some) == cutoff(text, TWO_KINDS)
    for none in ([math.nan, math.nan], [math.inf]):
        with pytest.raises(
            SettingError, match=rf"one finite score for {text.split('(')[0]}\(...\); none of {len(none)}"
        ):
            cutoff(text, none)


@pytest.mark.parametrize("text", FROM_SCORES)
def test_the_same_scores_the_same_cutoff(text: str) -> None:
    assert len({cutoff(text, TWO_KINDS) for _ in range(3)}) == 1
    assert cutoff(text, TWO_KINDS[::-1]) == pytest.approx(cutoff(text, TWO_KINDS), abs=0.02)


@pytest.mark.parametrize("text", FROM_SCORES)
@settings(max_examples=8)
@given(values=Values, power=st.sampled_from([-20, -1, 3, 40]), shift=st.integers(-8, 8))
def test_decisions_do_not_depend_on_the_unit(text: str, values: Floats, power: int, shift: int) -> None:
    """Exactly so for powers of two and shifts that cost no digits."""
    here, there = flagged(text, values), flagged(text, (values + shift) * 2.0**power)
    # Of five scores of which four are equal the fifth lies two deviations above the mean: rounding decides of it alone.
    clear = np.abs(values - cutoff(text, values)) > 1e-9 if "std" in text else np.ones(len(values), bool)
    assert np.array(there)[clear].tolist() == np.array(here)[clear].tolist() or "gaussian" in text
    got, unit = cutoff(text, (values + shift) * 2.0**power), 2.0**power
    assert_allclose(got, (cutoff(text, values) + shift) * unit, rtol=1e-6, atol=1e-6 * unit)  # it may lie at 0


@pytest.mark.parametrize("text", ["otsu()", "kmeans()", "gaussian_mixture()"])
@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1, 1e150])
def test_two_kinds_are_told_apart(text: str, unit: float) -> None:
    right = np.arange(400) >= 300
    assert (np.array(flagged(text, TWO_KINDS * unit)) == right).mean() > 0.97


@pytest.mark.parametrize("text", ["otsu()", "kmeans()", "gaussian_mixture()"])
def test_neighbouring_numbers_are_split(text: str) -> None:
    low = 0.1
    high = float(np.nextafter(low, 1))
    assert sum(flagged(text, [low, low, high])) <= 1
    assert flagged(text, [-1.7e308, 1.7e308]) == [False, True]


def test_a_mixture_that_does_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_groups, "MAX_ITERATIONS", 1)
    with pytest.raises(
        SettingError, match=r"expected scores of which gaussian_mixture\(\) finds two components; .*otsu"
    ):
        cutoff("gaussian_mixture()", RNG.normal(size=500))


@pytest.mark.parametrize("text", ["quantile(-0.1)", "quantile(1.1)", "quantile(1e999)"])
def test_quantiles_are_shares(text: str) -> None:
    with pytest.raises(SettingError, match=r"expected 0 <= q <= 1 in quantile\(q\); got"):
        parse_threshold(text)


@pytest.mark.parametrize("name", ["mean_std", "median_mad"])
def test_k_is_finite(name: str) -> None:
    with pytest.raises(SettingError, match=rf"expected a finite k in {name}\(k\); got inf"):
        parse_threshold(f"{name}(1e999)")
