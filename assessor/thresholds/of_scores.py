"""Cutoffs from the distribution of the scores: a centre and a spread, or a quantile.

Only finite scores count: NaN (undefined) and infinite ones are left out. Where all finite scores are one, that score is
the cutoff, so that no batch of a finite score is flagged.
"""

import math

import numpy as np
from scipy.special import ndtri

from assessor.errors import SettingError
from assessor.measures.scores import Scores
from assessor.moments import Floats
from assessor.thresholds.registered import Threshold, thresholds

MAD_TO_STD = 1 / float(ndtri(0.75))
"""1.4826: the standard deviation of a normal distribution over its median absolute deviation."""


def finite_scores(scores: Scores, name: str) -> Floats:
    """Return the finite scores, shape (n,).

    Raises:
        SettingError: there is none.
    """
    values = scores.values[np.isfinite(scores.values)]
    if not len(values):
        raise SettingError(
            f"expected at least one finite score for {name}(...); none of {len(scores.values)} is: "
            "use fixed(cutoff), or batches of which the measure is defined"
        )
    return np.asarray(values, np.float64)


@thresholds.register("mean")
def mean() -> Threshold:
    """Return the threshold at the mean of the scores.

    Raises:
        SettingError: on use, no finite score.
    """
    return lambda scores: _centre(finite_scores(scores, "mean"))


@thresholds.register("mean_std")
def mean_std(k: float) -> Threshold:
    """Return the threshold k standard deviations (biased) above the mean of the scores.

    Raises:
        SettingError: k is not finite; on use, no finite score.
    """
    _check_k("mean_std", k)

    def cutoff(scores: Scores) -> float:
        values = finite_scores(scores, "mean_std")
        centre = _centre(values)
        return centre + k * float(np.sqrt(np.mean((values - centre) ** 2)))

    return cutoff


@thresholds.register("median_mad")
def median_mad(k: float) -> Threshold:
    """Return the threshold k robust standard deviations above the median of the scores.

    The robust standard deviation is 1.4826 times the median absolute deviation from the median: the standard deviation
    where scores are normal, and untouched by less than half of the batches being unlike the rest.

    Raises:
        SettingError: k is not finite; on use, no finite score.

    Source: Hampel 1974, doi:10.1080/01621459.1974.10482962.
    """
    _check_k("median_mad", k)

    def cutoff(scores: Scores) -> float:
        values = finite_scores(scores, "median_mad")
        centre = float(np.median(values))
        return centre + k * MAD_TO_STD * float(np.median(np.abs(values - centre)))

    return cutoff


@thresholds.register("quantile")
def quantile(q: float) -> Threshold:
    """Return the threshold at the q quantile of the scores, linear between them: about 1 - q of the batches are above.

    Raises:
        SettingError: q is not between 0 and 1; on use, no finite score.
    """
    if not 0 <= q <= 1:
        raise SettingError(f"expected 0 <= q <= 1 in quantile(q); got {q}")
    return lambda scores: float(np.quantile(finite_scores(scores, "quantile"), q))


def _centre(values: Floats) -> float:
    """Return the mean, within the values: rounding must not put it below values that are all one."""
    return float(np.clip(values.mean(), values.min(), values.max()))


def _check_k(name: str, k: float) -> None:
    if not math.isfinite(k):
        raise SettingError(f"expected a finite k in {name}(k); got {k}")
