"""The two parts of `spread_divergence`, from the means and variances of a batch's features."""

import numpy as np

from assessor.moments import Floats

SPREAD_SHARE = 0.25
"""Share of p_v = ln( mean v / (mean v^(1/2))^2 ), the spread of the v_f alone, that counts with the location. Of .15 to
.75 the one that finds most of exponential values times log-normal(0.5) scales (B = 4, F = 64: .62 -> .81; B = 8: .97 ->
.996) and takes at most .002 from what is found of scales alone or means alone at B >= 4 and F >= 64."""


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
    """Return ln(V / mean v) / 2 + SPREAD_SHARE p_v over the last axis, V = mean v + var(m)."""
    return location_from(mean.var(axis=-1), variance.mean(axis=-1), np.sqrt(variance).mean(axis=-1))


def location_from(between: Floats, within: Floats, std: Floats) -> Floats:
    """Return the location part from var(m) and the means over features of v and v^(1/2)."""
    return np.asarray(np.log1p(between / within) / 2 + SPREAD_SHARE * (np.log(within) - 2 * np.log(std)))
