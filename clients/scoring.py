"""A plan's rule, applied to a batch that the plan has not seen: NumPy, for loader workers.

`Plan.rule` is a dict of numbers. For a batch of the plan, the rule gives the plan's own decision,
with these exceptions, where the plan knew more than a rule can hold:

- `class_deviation` with several classes: the rule does not know a sample's class and takes it as
  inside when any class's band holds it.
- `gaussian_divergence` and `spread_divergence`: the null and the cutoff are those of a batch with the
  usual number of varying features, the cutoff that of a complete one.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from assessor import Decision, UnknownNameError

Rule = Mapping[str, Any]


def decide(rule: Rule, x: NDArray[Any], *, index: int = -1) -> Decision:
    """Return the rule's decision on one batch.

    Args:
        rule: `Plan.rule`.
        x: the batch, (B, *), any numeric dtype; computed in float64.
        index: the number to put into the decision.

    Returns:
        The decision; where the score is undefined (fewer than two values a feature, no feature
        that varies) its score is NaN, it skips, and its reason says so.

    Raises:
        UnknownNameError: a measure without a rule here.
    """
    name = str(rule["measure"])
    if name not in _SCORES:
        raise UnknownNameError(
            f"no rule for measure {name!r}; known: {', '.join(sorted(_SCORES))}. "
            "The plan may come from a newer normgauge: update this one"
        )
    score = _SCORES[name](rule, np.asarray(x, np.float64))
    cutoff = float(rule["cutoff"])
    normalize = score > cutoff
    if math.isnan(score):
        reason = f"{name} undefined for this batch of {len(x)}: skipped; scored by the rule"
    else:
        sign = ">" if normalize else "<="
        reason = f"{name} {score:.4g} {sign} cutoff {cutoff:.4g}; scored by the rule"
    return Decision(index=index, normalize=normalize, score=score, cutoff=cutoff, reason=reason)


def standard_divergence(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return D - noise(B) (FORMULAS.md 2.2), NaN when fewer than two values a feature."""
    values = as_features(x, str(rule["feature_axis"]))
    count = len(values)
    kept = np.ones(values.shape[1], bool)
    kept[np.asarray(rule["constant_features"], np.intp)] = False
    unknown = rule["constant_log_variance"] is None
    n_kept = int(kept.sum())
    if count < 2 or n_kept == 0:
        return math.nan
    mean, variance = _moments(values[:, kept])
    varying = variance > 0
    if unknown:  # nothing is known of a feature that is constant in this batch: it is left out
        mean, variance, n_kept = mean[varying], variance[varying], int(varying.sum())
        varying = varying[varying]
        if n_kept == 0:
            return math.nan
    noise = _noise(count)
    # a feature that is constant in this batch alone counts with the dataset's log variance
    dead = 0.0 if unknown else (n_kept - int(varying.sum())) * (float(rule["constant_log_variance"]) - 2 * noise)
    log_variance = (float(np.log(variance[varying]).sum()) + dead) / n_kept
    return (float((variance + mean**2).mean()) - 1 - log_variance) / 2 - noise


def gaussian_divergence(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return H - E0[H] - bias (FORMULAS.md 2.3), NaN when no feature varies."""
    values = as_features(x, str(rule["feature_axis"]))
    count = len(values)
    if count < 2:
        return math.nan
    mean, variance = _moments(values)
    varying = variance > 0
    n_varying = int(varying.sum())
    if n_varying == 0:
        return math.nan
    mean, variance = mean[varying], variance[varying]
    pooled = float(variance.mean() + mean.var())
    divergence = (math.log(pooled) - float(np.log(variance).mean())) / 2
    total = count * n_varying
    expected = 0.5 * (
        float(digamma((total - 1) / 2)) - math.log(total) - float(digamma((count - 1) / 2)) + math.log(count)
    )
    return divergence - expected - float(rule["bias"])


def spread_divergence(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return the larger of the scale and the location part, each less its null mean, NaN when no feature varies."""
    values = as_features(x, str(rule["feature_axis"]))
    count = len(values)
    if count < 2 or not len(rule["counts"]):
        return math.nan
    mean, variance = _moments(values)
    varying = variance > 0
    if not varying.any():
        return math.nan
    mean, variance = mean[varying], variance[varying]
    squared = variance + (mean - mean.mean()) ** 2
    root = np.sqrt(squared)
    scale = 7 * math.log(root.mean()) - 12 * math.log(np.sqrt(root).mean()) - math.log(squared.mean()) / 2
    location = math.log1p(float(mean.var() / variance.mean())) / 2
    # null means fall about as 1/count, so between the counts of the rule they are linear in it
    places = -1 / np.asarray(rule["counts"], np.float64)
    scale_null, location_null = (
        float(np.interp(-1 / count, places, np.asarray(rule[name]))) for name in ("scale_null", "location_null")
    )
    return max(scale - scale_null, location - location_null)


def scale_dispersion(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return std_f(v_f^(1/2)) / mean_f(v_f^(1/2)) (FORMULAS.md 2.4), NaN when no feature varies."""
    _, variance, count = _varying(rule, x)
    if count < 2 or not len(variance):
        return math.nan
    std = np.sqrt(variance)
    return float(std.std() / std.mean())


def location_share(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return eta squared, or epsilon squared (FORMULAS.md 2.4), NaN when no feature varies."""
    mean, variance, count = _varying(rule, x)
    n_varying = len(variance)
    if count < 2 or not n_varying:
        return math.nan
    between = float(mean.var())
    share = between / (float(variance.mean()) + between)
    return share - (1 - share) * (n_varying - 1) / (n_varying * (count - 1)) if rule["corrected"] else share


def bartlett(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return Bartlett's statistic (FORMULAS.md 2.4), NaN when fewer than two features vary."""
    _, variance, count = _varying(rule, x)
    n_varying = len(variance)
    if count < 2 or n_varying < 2:
        return math.nan
    logs = math.log(variance.mean()) - float(np.log(variance).mean())
    return max(n_varying * (count - 1) * logs / (1 + (n_varying + 1) / (3 * n_varying * (count - 1))), 0.0)


def population_divergence(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return mean_f KL( N(m_f, v_f) || N(M_f, V_f) ) (FORMULAS.md 2.4), NaN when no feature of the reference varies."""
    values = as_features(x, str(rule["feature_axis"]))
    count = len(values)
    centre, population = (np.asarray(rule[f"reference_{name}"], np.float64) for name in ("mean", "variance"))
    active = population > 0
    if count < 2 or not active.any():
        return math.nan
    mean, variance = _moments(values[:, active])
    centre, population = centre[active], population[active]
    # a feature that is constant in this batch counts neither for nor against it
    log_ratio = np.full(len(variance), -2 * _noise(count))
    varying = variance > 0
    log_ratio[varying] = np.log(variance[varying] / population[varying])
    return float(((variance + (mean - centre) ** 2) / population - 1 - log_ratio).mean()) / 2


def class_deviation(rule: Rule, x: NDArray[np.float64]) -> float:
    """Return max over samples of min over classes of |a_s - T_c| / |T_c| (FORMULAS.md 2.1)."""
    exact = bool(rule["published_exact"])
    if exact and x.ndim >= 3 and min(x.shape[-2:]) >= 2:
        x = x[..., :-1, :-1]  # as the released code: an image without its last row and column
    sample_means = x.reshape(len(x), -1).mean(axis=1)
    class_means = np.asarray(rule["class_means"], np.float64)
    distance = np.abs(sample_means[:, None] - class_means[None, :])
    scale = np.abs(class_means)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.where(distance == 0, 0.0, distance / scale)
    if exact:
        # the published interval [T - pT, T + pT] is empty for a negative T
        deviation[:, class_means < 0] = math.inf
    return float(deviation.min(axis=1).max())


def as_features(x: NDArray[np.float64], feature_axis: str) -> NDArray[np.float64]:
    """Return x as (values, features): elements of a sample, or axis 1 with the rest as values."""
    if feature_axis == "channel" and x.ndim > 2:
        return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    return x.reshape(len(x), -1)


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # shifted by the first row: a constant feature has a variance of exactly zero
    shifted = values - values[:1]
    return values[0] + shifted.mean(axis=0), shifted.var(axis=0)


def _varying(rule: Rule, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return means and variances of the features that vary within the batch, and the values of each."""
    values = as_features(x, str(rule["feature_axis"]))
    mean, variance = _moments(values)
    varying = variance > 0
    return mean[varying], variance[varying], len(values)


def _noise(count: int) -> float:
    """Return noise(B) = ( ln(B/2) - digamma((B-1)/2) ) / 2 (FORMULAS.md 2.2)."""
    return 0.5 * (math.log(count / 2) - float(digamma((count - 1) / 2)))


_SCORES: dict[str, Callable[[Rule, NDArray[np.float64]], float]] = {
    "standard_divergence": standard_divergence,
    "gaussian_divergence": gaussian_divergence,
    "spread_divergence": spread_divergence,
    "class_deviation": class_deviation,
    "scale_dispersion": scale_dispersion,
    "location_share": location_share,
    "bartlett": bartlett,
    "population_divergence": population_divergence,
}
