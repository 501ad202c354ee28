"""`gaussian_divergence`: how unlike each other a batch's features are, whatever their common shift and scale.

H = (ln V - mean_f ln v_f) / 2 in nats, V = mean_f v_f + var_f(m_f) the pooled variance, over the features that vary
within the batch (FORMULAS 2.3). The score is H less its mean when all features are alike.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma
from scipy.stats import norm

from assessor.errors import SettingError
from assessor.measures.scores import Measure, Scores, measures
from assessor.measures.varying import defined_batches, notes_on
from assessor.moments import Floats
from assessor.noise import normal_divergence
from assessor.nulls import AlikeFeatures, Null, residual_pool
from assessor.view import BatchView


def gaussian_divergence(view: BatchView, *, null: str = "residual") -> Scores:
    """Return H less its null mean of each batch, in nats.

    Args:
        null: "residual" draws the null from the data's own residuals, "normal" takes the closed form for normal
            data. Where the residuals cannot serve (no calibration sample, too few that differ), the closed form is
            taken and the notes say so.

    Raises:
        SettingError: another null.
    """
    if null not in ("residual", "normal"):
        raise SettingError(f"expected null 'residual' or 'normal'; got {null!r}")
    records, counts = view.records, view.counts
    n_varying = records["n_varying"].astype(np.int64)
    defined = defined_batches(view)
    pooled = np.where(defined, records["pooled_variance"], 1.0)
    divergence = (np.log(pooled) - np.where(defined, records["mean_log_variance"], 0.0)) / 2

    nulls: dict[int, Null] = {}
    notes = list(notes_on(view, defined))
    if null == "residual" and defined.any():
        pool = residual_pool(view.profile)
        for count in np.unique(counts[defined]).astype(int).tolist():
            alike = AlikeFeatures(pool, count)
            if alike.enough:
                nulls[count] = alike.null(n_varying[defined & (counts == count)], _divergence)
        if len(nulls) < len(np.unique(counts[defined])):
            why = "there is no calibration sample" if not pool.values.size else "too few residuals differ"
            notes.append(f"the null is the closed form for normal data, since {why}")

    expected = normal_divergence(counts, np.maximum(n_varying, 1))
    for count, drawn in nulls.items():
        expected = np.where(counts == count, drawn.mean(n_varying), expected)
    values = np.where(defined, divergence - expected, np.nan)

    def null_quantile(alpha: float) -> Floats:
        quantile = _normal_quantile(counts, n_varying, alpha)
        for count, drawn in nulls.items():
            above = drawn.quantile(n_varying, alpha) - drawn.mean(n_varying)
            quantile = np.where(counts == count, above, quantile)
        return quantile

    typical = int(np.median(n_varying))
    count = int(view.batch_size * view.profile.schema.values_per_row)
    bias = 0.0
    if count in nulls and typical:
        point = np.array([typical])
        bias = float(nulls[count].mean(point)[0] - normal_divergence(count, typical))
    return Scores(
        values=values,
        details={"divergence": divergence, "n_varying": n_varying.astype(np.float64)},
        rule={
            "measure": "gaussian_divergence",
            "bias": bias,
            "feature_axis": view.profile.feature_axis,
        },
        notes=tuple(notes),
        null_quantile=null_quantile,
    )


def _divergence(mean: Floats, variance: Floats) -> Floats:
    """Return H of batches given by their features' means and variances, features on the last axis."""
    pooled = variance.mean(axis=-1) + mean.var(axis=-1)
    return np.asarray((np.log(pooled) - np.log(variance).mean(axis=-1)) / 2)


def _normal_quantile(counts: Floats, n_varying: NDArray[np.int64], alpha: float) -> Floats:
    """Return an upper quantile of H - E0[H] for normal data, by the normal limit of a mean over features.

    ln of a chi-square variable of B - 1 degrees of freedom has variance trigamma((B-1)/2); H takes half of its mean
    over F features, and ln V varies less by a factor B.
    """
    b = np.maximum(counts, 2.0)
    f = np.maximum(n_varying, 1)
    variance = np.maximum(polygamma(1, (b - 1) / 2) - 2 / b, 0.0) / (4 * f)
    return np.asarray(norm.ppf(1 - alpha) * np.sqrt(variance))


def _explain(details: Mapping[str, float]) -> str:
    return (
        f"its {details['n_varying']:.0f} varying features differ by {details['divergence']:.3g} nats "
        "before the null is taken off"
    )


measures.register("gaussian_divergence")(Measure(gaussian_divergence, _explain, "nats", frozenset({"null"})))
