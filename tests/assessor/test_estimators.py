"""The scikit-learn estimators: scikit-learn's own checks, and their results against plans and NumPy."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from assessor import (
    BatchStandardizer,
    HeterogeneityAssessor,
    SettingError,
    UnknownNameError,
    assess,
    make_plan,
    profile_array,
)

RNG = np.random.default_rng(71)
X = RNG.normal(size=(70, 6))
X[16:32] = X[16:32] * 3 + 5

IN_BATCHES = "a row's result depends on its batch, the rows beside it: that is what the estimator is for"
EXPECTED_FAILURES = {
    "check_methods_subset_invariance": IN_BATCHES,
    "check_methods_sample_order_invariance": IN_BATCHES,
}


@parametrize_with_checks(  # type: ignore[untyped-decorator]  # scikit-learn has no types
    [
        HeterogeneityAssessor(batch_size=8),
        BatchStandardizer(batch_size=8),
        BatchStandardizer(batch_size=8, when="always"),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
    xfail_strict=True,
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("method", ["need", "heterogeneity", "published"])
def test_the_fitted_plan_is_that_of_assess(method: str) -> None:
    labels = np.arange(70) % 3
    fitted = HeterogeneityAssessor(method, batch_size=16).fit(X, labels)
    again = assess(X, batch_size=16, method=method, labels=labels if method == "published" else None)
    assert fitted.plan_.to_json() == again.to_json()
    assert fitted.cutoff_ == again.rule["cutoff"]


def test_classes_may_have_any_name() -> None:
    names = np.array(["a", "b", "c"])[np.arange(70) % 3]
    scores = HeterogeneityAssessor("published", batch_size=16).fit(X, names).plan_.scores
    assert_array_equal(scores, assess(X, batch_size=16, method="published", labels=np.arange(70) % 3).scores)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        HeterogeneityAssessor("published", batch_size=16).fit(X, names[1:])


@pytest.mark.parametrize("threshold", [None, "otsu()", 0.5])
def test_rows_take_the_decision_of_their_batch(threshold: Any) -> None:
    fitted = HeterogeneityAssessor(batch_size=16, threshold=threshold).fit(X)
    assert_array_equal(fitted.score_batches(X), fitted.plan_.scores)
    assert_array_equal(fitted.predict(X), np.repeat(fitted.plan_.normalize, 16)[:70])
    new = RNG.normal(2, 1, size=(37, 6))
    scores = assess(new, batch_size=16).scores
    assert_array_equal(fitted.score_batches(new), scores)
    assert_array_equal(fitted.predict(new), np.repeat(scores > fitted.cutoff_, 16)[:37])


def test_population_divergence_compares_with_the_fitted_rows() -> None:
    fitted = HeterogeneityAssessor("population_divergence", batch_size=8, threshold="quantile(0.9)").fit(X)
    new = RNG.normal(size=(24, 6))
    profile = profile_array(new, batch_sizes=[8], reference=profile_array(X, batch_sizes=[8]))
    expected = make_plan(profile, method="population_divergence", threshold=1).scores
    assert_array_equal(fitted.score_batches(new), expected)


@pytest.mark.parametrize("when", ["flagged", "always"])
def test_batches_are_standardized_over_their_rows(when: str) -> None:
    x = X.copy()
    x[16:32, 2] = 0.1
    fitted = BatchStandardizer(batch_size=16, when=when).fit(x)
    got = fitted.transform(x)
    flagged = fitted.assessor_.plan_.normalize
    assert flagged.tolist() == [False, True, False, False, False]
    for k in range(5):
        batch = x[16 * k : 16 * k + 16]
        if flagged[k] or when == "always":
            batch = (batch - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0) + 2.22e-16)
        assert_allclose(got[16 * k : 16 * k + 16], batch, atol=1e-8)
    assert (got[16:32, 2] == 0).all()


def test_batches_of_one_row_become_zeros() -> None:
    assert (BatchStandardizer(batch_size=1, when="always").fit_transform(X) == 0).all()
    assert (BatchStandardizer(batch_size=23, when="always").fit_transform(X)[69] == 0).all()


def test_in_a_pipeline() -> None:
    y = (X[:, 0] > X[:, 0].mean()).astype(int)
    pipeline = make_pipeline(BatchStandardizer(batch_size=10, when="always"), LogisticRegression())
    assert clone(pipeline).fit(X, y).score(X, y) > 0.8
    assert pipeline.fit(X, y)[0].get_feature_names_out().tolist() == [f"x{k}" for k in range(6)]


def test_settings_out_of_range() -> None:
    with pytest.raises(SettingError, match="expected when among flagged, always; got 'never'"):
        BatchStandardizer(when="never").fit(X)
    with pytest.raises(UnknownNameError, match="expected a method among: need"):
        HeterogeneityAssessor("other").fit(X)
    with pytest.raises(SettingError, match="expected batch sizes that are integers >= 1"):
        HeterogeneityAssessor(batch_size=0).fit(X)
    with pytest.raises(NotFittedError):
        HeterogeneityAssessor().predict(X)


def test_importing_the_assessor_does_not_import_scikit_learn() -> None:
    code = "import sys, assessor; assert 'sklearn' not in sys.modules; assessor.BatchStandardizer; import sklearn"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_that_are_not_finite() -> None:
    x = np.random.default_rng(4).normal(size=(40, 5))
    x[9, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        HeterogeneityAssessor(batch_size=8).fit(x)
    for policy in ("exclude", "normalize"):
        assessor = HeterogeneityAssessor(batch_size=8, nonfinite=policy).fit(x)
        assert assessor.plan_ == assess(x, batch_size=8, nonfinite=policy)
        assert assessor.predict(x).tolist() == np.repeat(assessor.plan_.normalize, 8).tolist()
        assert assessor.score_batches(x).tolist() == assessor.plan_.scores.tolist()
    assert assessor.predict(x)[8:16].all()
    with pytest.raises(SettingError, match="nonfinite among raise, exclude, normalize; got 'drop'"):
        HeterogeneityAssessor(batch_size=8, nonfinite="drop").fit(x)


@pytest.mark.parametrize("when", ["flagged", "always"])
@pytest.mark.parametrize("nonfinite", ["exclude", "normalize"])
def test_rows_that_are_not_finite_count_in_no_batchs_moments(nonfinite: str, when: str) -> None:
    x = X.copy()
    x[2, 1], x[20], x[64:, 0] = np.nan, np.inf, np.nan  # of the last batch no row is left
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        BatchStandardizer(batch_size=16, when=when).fit(x)
    standardizer = BatchStandardizer(batch_size=16, when=when, nonfinite=nonfinite).fit(x)
    got = standardizer.transform(x)
    flagged = standardizer.assessor_.plan_.normalize
    assert flagged.tolist() == [nonfinite == "normalize", True, False, False, nonfinite == "normalize"]
    for k, batch in enumerate(np.split(x, range(16, 70, 16))):
        finite = batch[np.isfinite(batch).all(axis=1)]
        ours = got[16 * k : 16 * k + len(batch)]
        if len(finite) and (when == "always" or flagged[k]):
            expected = (finite - finite.mean(axis=0)) / finite.std(axis=0)
            assert_allclose(ours[np.isfinite(batch).all(axis=1)], expected, atol=1e-12)
            assert_array_equal(np.isfinite(ours), np.isfinite(batch))
        else:
            assert_array_equal(ours, batch)
