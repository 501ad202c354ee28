"""The two parts of `spread_divergence`, from the means and variances of a batch's features."""

import numpy as np

from assessor.moments import Floats


def scale_part(mean: Floats, variance: Floats) -> Floats:
    """Return 7 ln mean r^(1/2) - 12 ln mean r^(1/4) - ln(mean r) / 2 over the last axis, r = v + (m - mean m)^2."""
    centred = mean - mean.mean(axis=-1, keepdims=True)
    squared = variance + centred * centred
    root = np.sqrt(squared)
    return scale_from(squared.mean(axis=-1), root.mean(axis=-1), np.sqrt(root).mean(axis=-1))


def scale_from(mean: Floats, root: Floats, quarter: Floats) -> Floats:
    """Return the scale part from the means over features of r, r^(1/2) and r^(1/4)."""
    return np.asarray(7 * np.log(root) - 12 * np.log(quarter) - np.log(mean) / 2)


def location_part(mean: Floats, variance: Floats) -> Floats:
    """Return -ln(1 - var_f(m_f) / V) / 2 over the last axis, that is ln(V / mean_f v_f) / 2."""
    return np.asarray(np.log1p(mean.var(axis=-1) / variance.mean(axis=-1)) / 2)
