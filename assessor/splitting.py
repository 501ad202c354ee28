"""The split of values into a lower and an upper group that are most unlike: Otsu's."""

import numpy as np

from assessor.moments import Floats


def split_in_two(values: Floats) -> tuple[float, float]:
    """Return the cutoff halfway between the two groups, and the share of the variance that lies between them.

    Over all splits of the sorted values, without a histogram; of several as good, the lowest. The lower group is at or
    below the cutoff.

    Args:
        values: shape (n,), n >= 1, finite. Where they are all one, that is the cutoff and the share is 0.

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076, equation 18: sigma_B^2(k) = (mu_T w(k) - mu(k))^2 / (w (1 - w)).

    >>> split_in_two(np.array([0.0, 0.0, 3.0, 5.0]))[0]
    1.5
    """
    distinct, where = np.unique(values, return_counts=True)
    if len(distinct) < 2:
        return float(distinct[0]), 0.0
    x = to_unit(distinct)
    weight = where / where.sum()
    w = np.cumsum(weight)[:-1]
    first_moment = np.cumsum(weight * x)
    between = (first_moment[-1] * w - first_moment[:-1]) ** 2 / (w * (1 - w))
    k = int(np.argmax(between))
    total = float((weight * (x - first_moment[-1]) ** 2).sum())
    return halfway(float(distinct[k]), float(distinct[k + 1])), float(between[k]) / total


def to_unit(values: Floats) -> Floats:
    """Return values, not all one, scaled to [0, 1], so that squares fit and absolute tolerances suit any unit."""
    low, high = values.min(), values.max()
    # Halved first, since the difference of two large values may not fit.
    return np.asarray((values / 2 - low / 2) / (high / 2 - low / 2))


def halfway(lower: float, upper: float) -> float:
    """Return a cutoff with `lower` at or below and `upper` above it."""
    middle = lower / 2 + upper / 2
    return middle if lower <= middle < upper else lower
