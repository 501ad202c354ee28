"""scikit-learn estimators: which batches of rows need normalization, and a transformer that standardizes those.

Rows are taken in the order they come: batch k is rows k B to (k + 1) B - 1, the last one may be smaller. So unlike most
estimators' results, a row's result depends on the rows beside it. Shuffle before, not after.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from assessor.errors import SettingError
from assessor.methods import choose
from assessor.moments import Floats
from assessor.plan import Plan, make_plan
from assessor.profile import Profile
from assessor.profiler import profile_array

EPSILON = 2.22e-16
"""Added to the variance (FORMULAS 2.1)."""
WHEN = ("flagged", "always")


class HeterogeneityAssessor(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Finds the batches of rows that need normalization.

    Args:
        method: a registered method, or a registered measure where `threshold` is given.
        batch_size: rows a batch.
        threshold: replaces the method's own: a cutoff, or a text such as "null(0.01)" or "otsu()".
        nonfinite: "raise" refuses rows with NaN or infinity; "exclude" judges batches by their other rows, "normalize"
            flags the batches that hold such rows.

    Attributes:
        plan_: the plan of the fitted rows.
        profile_: their profile, of which other plans can be made.
        cutoff_: the plan's cutoff; the median where it differs between batches.
        n_features_in_: columns of the fitted rows.

    >>> x = np.random.default_rng(0).normal(size=(64, 8))
    >>> x[16:32] = 5 + 3 * x[16:32]
    >>> assessor = HeterogeneityAssessor(batch_size=16).fit(x)
    >>> assessor.plan_.normalize.tolist(), int(assessor.predict(x).sum())
    ([False, True, False, False], 16)
    """

    plan_: Plan
    profile_: Profile
    cutoff_: float

    def __init__(
        self,
        method: str = "need",
        *,
        batch_size: int = 32,
        threshold: str | float | None = None,
        nonfinite: str = "raise",
    ) -> None:
        self.method = method
        self.batch_size = batch_size
        self.threshold = threshold
        self.nonfinite = nonfinite

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: whether NaN is allowed is a setting."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.nonfinite != "raise"
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Profile rows and make their plan.

        Args:
            X: shape (n, features), numbers; finite with nonfinite="raise".
            y: shape (n,), classes, which only the method "published" looks at; without them all rows are one class.

        Raises:
            AssessorError: a setting out of its range. ValueError: X or y is not of that form.
        """
        measure, _ = choose(self.method, self.threshold)
        rows = self._rows(X, reset=True)
        labels = None
        if y is not None and measure == "class_deviation":
            check_consistent_length(rows, y)
            labels = np.unique(column_or_1d(y), return_inverse=True)[1]
        self.profile_ = profile_array(rows, batch_sizes=[self.batch_size], labels=labels, nonfinite=self.nonfinite)
        self.plan_ = make_plan(self._compared(rows, self.profile_), method=self.method, threshold=self.threshold)
        self.cutoff_ = float(self.plan_.rule["cutoff"])
        return self

    def score_batches(self, X: ArrayLike) -> Floats:  # noqa: N803 - scikit-learn's name
        """Return the score of each batch of X, shape (batches,), in the measure's unit; NaN where it is undefined.

        X is a dataset of its own: what a measure takes from the dataset (features that never vary, nulls, class means
        of rows without classes) it takes from X. `population_divergence` compares with the fitted rows.

        Raises:
            NotFittedError: before `fit`. ValueError: X is not of the form that was fitted.
        """
        check_is_fitted(self)
        return self._score(self._rows(X, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[np.bool_]:  # noqa: N803 - scikit-learn's name
        """Return for each row whether its batch needs normalization, shape (n,): its score is above `cutoff_`.

        Raises:
            NotFittedError: before `fit`. ValueError: X is not of the form that was fitted.
        """
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        with np.errstate(invalid="ignore"):
            flagged = self._score(rows) > self.cutoff_
        return np.repeat(flagged, self.plan_.batch_size)[: len(rows)]

    def _rows(self, X: ArrayLike, *, reset: bool) -> NDArray[Any]:  # noqa: N803 - scikit-learn's name
        finite = self.nonfinite == "raise"
        return np.asarray(validate_data(self, X, reset=reset, ensure_all_finite=finite))

    def _score(self, rows: NDArray[Any]) -> Floats:
        profile = self._compared(rows, self._profile(rows))
        return make_plan(profile, method=self.plan_.measure, threshold=self.cutoff_).scores

    def _compared(self, rows: NDArray[Any], profile: Profile) -> Profile:
        """Return the profile of rows, with the fitted rows as reference where the measure needs one."""
        if choose(self.method, self.threshold)[0] != "population_divergence":
            return profile
        return profile_array(rows, batch_sizes=profile.batch_sizes, reference=self.profile_, nonfinite=self.nonfinite)

    def _profile(self, rows: NDArray[Any]) -> Profile:
        return profile_array(rows, batch_sizes=[self.plan_.batch_size], nonfinite=self.nonfinite)


class BatchStandardizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # as above
    """Standardizes the batches of rows that need it, each by its own mean and standard deviation per column.

    Args:
        method, batch_size, threshold, nonfinite: see `HeterogeneityAssessor`. Rows that are left out of a batch's
            score are left out of its mean and standard deviation too; NaN and infinity stay what they are.
        when: "flagged" standardizes the batches that the fitted assessor flags, "always" all.

    Attributes:
        assessor_: the fitted `HeterogeneityAssessor`.
        n_features_in_: columns of the fitted rows.

    >>> x = np.random.default_rng(0).normal(size=(64, 8))
    >>> x[16:32] = 5 + 3 * x[16:32]
    >>> z = BatchStandardizer(batch_size=16).fit_transform(x)
    >>> bool((z[:16] == x[:16]).all()), z[16:32].std(axis=0).round(6).tolist()[:2]
    (True, [1.0, 1.0])
    """

    assessor_: HeterogeneityAssessor

    def __init__(
        self,
        method: str = "need",
        *,
        batch_size: int = 32,
        threshold: str | float | None = None,
        when: str = "flagged",
        nonfinite: str = "raise",
    ) -> None:
        self.method = method
        self.batch_size = batch_size
        self.threshold = threshold
        self.when = when
        self.nonfinite = nonfinite

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: whether NaN is allowed is a setting."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.nonfinite != "raise"
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Fit the assessor, whose cutoff decides from then on.

        Raises:
            AssessorError: a setting out of its range. ValueError: X or y is not of the form.
        """
        if self.when not in WHEN:
            raise SettingError(f"expected when among {', '.join(WHEN)}; got {self.when!r:.80}")
        rows = validate_data(self, X, ensure_all_finite=self.nonfinite == "raise")
        assessor = HeterogeneityAssessor(
            self.method, batch_size=self.batch_size, threshold=self.threshold, nonfinite=self.nonfinite
        )
        self.assessor_ = assessor.fit(rows, y)
        return self

    def transform(self, X: ArrayLike) -> Floats:  # noqa: N803 - scikit-learn's name
        """Return X with (x - mean) / sqrt(variance + 2.22e-16) in place of x in the batches concerned, float64.

        Mean and biased variance are those of the column within the batch; a batch of one row becomes zeros.

        Raises:
            NotFittedError: before `fit`. ValueError: X is not of the form that was fitted.

        Source: FORMULAS 2.1, the published rule's transformation.
        """
        check_is_fitted(self)
        finite_only = self.nonfinite == "raise"
        rows = np.array(validate_data(self, X, reset=False, ensure_all_finite=finite_only), np.float64)
        size = self.assessor_.plan_.batch_size
        chosen = (
            self.assessor_.predict(rows)[::size] if self.when == "flagged" else np.ones(-(-len(rows) // size), bool)
        )
        for k in np.flatnonzero(chosen):
            batch = rows[k * size : (k + 1) * size]
            counted = np.isfinite(batch).all(axis=1)
            if not counted.any():
                continue
            # Around a row, so that a column of equal values becomes exactly 0.
            with np.errstate(invalid="ignore"):  # NaN of NaN, and infinity of infinity, in the rows left out
                centred = batch - batch[int(np.argmax(counted))]
                centred -= centred[counted].mean(axis=0)
                deviation = np.sqrt((centred[counted] ** 2).mean(axis=0) + EPSILON)
                batch[:] = centred / deviation
        return rows
