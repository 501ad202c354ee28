"""Other treatments of variances that vanish within a small batch, for `standard_divergence`.

The assessor gives a feature that is constant within a batch the log variance of an average such feature. Here such
features are left out, or every variance is shrunk toward the dataset's.
"""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from assessor import noise

Floats = NDArray[np.float64]
Treatment = Callable[[Floats, Floats, Floats, int], Floats]


def left_out(mean: Floats, variance: Floats, overall: Floats, batch_size: int) -> Floats:
    """Return D - noise(B) of each batch over the features that vary in it; NaN where none does.

    Args:
        mean, variance: of each feature within each batch, (batches, features); the variance is biased.
        overall: each feature's variance over the dataset, (features,), positive.
        batch_size: B.
    """
    varies = variance > 1e-10 * overall
    terms = np.where(varies, variance + mean**2 - 1 - np.log(np.where(varies, variance, 1.0)), 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(terms.sum(1) / varies.sum(1) / 2 - noise(batch_size))


def shrunk(mean: Floats, variance: Floats, overall: Floats, batch_size: int) -> Floats:
    """Return D less its noise with ln( (1 - w) v_f + w V_f ) in place of ln v_f, w = 1 / B; arguments as left_out."""
    weight = 1 / batch_size
    mixed = (1 - weight) * variance + weight * overall
    return np.asarray((variance + mean**2 - 1 - np.log(mixed)).mean(1) / 2 - shrunk_noise(batch_size))


@cache
def shrunk_noise(batch_size: int) -> float:
    """Return what `shrunk` gives for normal features whose batches are alike, of mean 0 and variance 1: its noise.

    -E ln( (1 - w) v + w ) / 2, B v being chi-squared with B - 1 degrees of freedom; by its quantiles.

    >>> round(shrunk_noise(2), 2), round(shrunk_noise(32), 2)
    (0.18, 0.03)
    """
    weight = 1 / batch_size
    quantiles = chi2.ppf((np.arange(20_000) + 0.5) / 20_000, batch_size - 1) / batch_size
    return float(-np.log((1 - weight) * quantiles + weight).mean() / 2)


TREATMENTS: Mapping[str, Treatment] = {"left_out": left_out, "shrunk": shrunk}


def scores(x: NDArray[np.float32], batch_size: int) -> dict[str, Floats]:
    """Return the scores of the complete batches under each treatment, by "standard_divergence/treatment".

    Features that are constant over all complete batches are left out, as the assessor does.

    Args:
        x: samples, (N, *).
        batch_size: B of at least 2.
    """
    count = len(x) // batch_size
    batches = x[: count * batch_size].reshape(count, batch_size, -1).astype(np.float64)
    overall = batches.reshape(count * batch_size, -1).var(0)
    batches, overall = batches[..., overall > 0], overall[overall > 0]
    mean, variance = batches.mean(1), batches.var(1)
    return {
        f"standard_divergence/{name}": treat(mean, variance, overall, batch_size) for name, treat in TREATMENTS.items()
    }
