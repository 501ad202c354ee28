"""What small samples add to log variances: the closed forms for normal data."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from assessor.moments import Floats


def noise(count: ArrayLike) -> Floats:
    """Return noise(B) = (ln(B/2) - psi((B-1)/2)) / 2 in nats: half the shortfall of E[ln v] of B normal values.

    Args:
        count: B, values per feature and batch; any shape. NaN below 2, where no variance exists.

    Source: FORMULAS 2.2; E[ln chi2_k] = psi(k/2) + ln 2.

    >>> [round(float(noise(b)), 3) for b in (2, 4, 8, 16, 32)]
    [0.982, 0.328, 0.142, 0.066, 0.032]
    """
    b = np.asarray(count, np.float64)
    enough = b >= 2
    safe = np.where(enough, b, 2.0)
    return np.where(enough, (np.log(safe / 2) - digamma((safe - 1) / 2)) / 2, np.nan)


def normal_divergence(count: ArrayLike, n_features: ArrayLike) -> Floats:
    """Return E0[H] in nats: the mean of the gaussian divergence of F alike normal features of B values each.

    E0[H] = (psi((BF-1)/2) - ln(BF) - psi((B-1)/2) + ln B) / 2.

    Args:
        count: B >= 2; NaN below.
        n_features: F >= 1; NaN below.

    Source: FORMULAS 2.3.
    """
    b, f = np.asarray(count, np.float64), np.asarray(n_features, np.float64)
    fine = (b >= 2) & (f >= 1)
    b, f = np.where(fine, b, 2.0), np.where(fine, f, 1.0)
    value = (digamma((b * f - 1) / 2) - np.log(b * f) - digamma((b - 1) / 2) + np.log(b)) / 2
    return np.where(fine, value, np.nan)


DRIFT_NATS = 0.1
"""Drift beyond which two kinds of batches call for deciding batch by batch; alike batches show below 0.05."""
NOISE_TIMES = 3.0
"""Deciding batch by batch pays where drift is more than so many times noise(B): below, what the batches' own statistics
add outweighs what they remove (docs/evidence.md, question 3)."""


def drift_limit(added: float) -> float:
    """Return the drift above which to decide batch by batch is advised, where batch statistics add this noise; in nats.

    >>> drift_limit(0.33), drift_limit(0.01)
    (0.99, 0.1)
    """
    return max(DRIFT_NATS, NOISE_TIMES * added)


MANY_SAMPLES = 16
"""Values a feature and batch from which batch norm is advised in hidden layers, and below which layer norm."""


def many_samples(added: float) -> bool:
    """Return whether batch statistics that add this noise, in nats, are of MANY_SAMPLES values a feature or more."""
    return added <= float(noise(MANY_SAMPLES)) * (1 + 1e-9)
