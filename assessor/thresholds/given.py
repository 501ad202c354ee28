"""Cutoffs that are given: a number, a quantile of the measure's null, or the largest of several."""

import math
from functools import reduce

import numpy as np

from assessor.errors import SettingError
from assessor.measures.scores import Scores
from assessor.moments import Floats
from assessor.thresholds.registered import Threshold, thresholds


@thresholds.register("fixed")
def fixed(cutoff: float) -> Threshold:
    """Return the threshold with one cutoff for all batches, in the score's unit.

    Raises:
        SettingError: the cutoff is not a finite number.
    """
    if not math.isfinite(cutoff):
        raise SettingError(f"expected a finite cutoff; got {cutoff}")
    return lambda scores: float(cutoff)


@thresholds.register("null")
def null(alpha: float) -> Threshold:
    """Return the threshold at the 1 - alpha quantile of the score when all features are alike.

    Args:
        alpha: share of alike batches that may be flagged, 0 < alpha < 1.

    Raises:
        SettingError: alpha out of its range; on use, a measure that has no null.
    """
    if not 0 < alpha < 1:
        raise SettingError(f"expected 0 < alpha < 1 in null(alpha); got {alpha}")

    def cutoffs(scores: Scores) -> Floats:
        if scores.null_quantile is None:
            raise SettingError(
                f"expected a measure with a null for null({alpha:g}), such as gaussian_divergence; "
                f"got {scores.rule['measure']}: use fixed(cutoff)"
            )
        return scores.null_quantile(alpha)

    return cutoffs


@thresholds.register("max")
def largest(*parts: Threshold) -> Threshold:
    """Return the threshold at the largest of several cutoffs."""
    if not parts:
        raise SettingError("expected at least one threshold in max(...); got none")
    return lambda scores: reduce(np.maximum, [np.asarray(part(scores)) for part in parts])
