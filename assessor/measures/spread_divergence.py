"""`spread_divergence`: how unlike each other a batch's features are in scale or in location, in nats.

With m_f, v_f the moments of the features that vary within the batch, m, V the pooled mean and variance and
r_f = v_f + (m_f - m)^2:

    scale    = 4 ln( mean_f r_f^(1/2) / (mean_f r_f^(1/4))^2 )
    location = -ln( 1 - var_f(m_f) / V ) / 2

each less its mean when all features are alike; the score is the larger. Both estimate the divergence H of
`gaussian_divergence` where only scales, or only locations, differ: for scales log-normal(s), H = s^2 and so is the
scale part, for any common shape of the features, since 1 + CV^2 of a product of independent factors is the product of
theirs, and exp(s z / 2) has 1 + CV^2 = exp(s^2 / 4). H itself averages ln v_f, which at small B and heavy tails varies
far more: at B = 4, F = 64, log-normal(0.5) scales of Student t(5) data are found at 1 % in .90 of the batches instead
of .74 (`python -m benchmarks.calibration`). Powers of r_f instead of v_f use that alike features share a location.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from assessor.errors import SettingError
from assessor.measures.scores import Measure, Scores, measures
from assessor.measures.varying import defined_batches, notes_on
from assessor.moments import Floats
from assessor.nulls import AlikeFeatures, Null, normal_pool, residual_pool
from assessor.view import BatchView


def spread_divergence(view: BatchView, *, null: str = "residual") -> Scores:
    """Return the larger of the scale and the location part of each batch, less their null means, in nats.

    Args:
        null: "residual" draws the null from the data's own residuals, "normal" from the normal distribution. Where
            the residuals cannot serve (no calibration sample, too few that differ), the normal null is taken and the
            notes say so.

    Raises:
        SettingError: another null.
    """
    if null not in ("residual", "normal"):
        raise SettingError(f"expected null 'residual' or 'normal'; got {null!r}")
    records, counts = view.records, view.counts
    n_varying = records["n_varying"].astype(np.int64)
    defined = defined_batches(view)
    scale, location = _parts_of_records(view, defined)

    notes = list(notes_on(view, defined))
    pool = residual_pool(view.profile) if null == "residual" else normal_pool()
    score_nulls: dict[int, Null] = {}
    for count in np.unique(counts[defined]).astype(int).tolist():
        here = defined & (counts == count)
        alike = AlikeFeatures(pool, count)
        if not alike.enough:
            why = "there is no calibration sample" if not pool.size else "too few residuals differ"
            notes.append(f"the null is that of normal data, since {why}")
            alike = AlikeFeatures(normal_pool(), count)
        scale_null, location_null = (alike.null(n_varying[here], part) for part in (scale_part, location_part))
        scale[here] -= scale_null.mean(n_varying[here])
        location[here] -= location_null.mean(n_varying[here])
        score_nulls[count] = alike.null(n_varying[here], _Larger(scale_null, location_null))

    def null_quantile(alpha: float) -> Floats:
        quantile = np.zeros(len(records))
        for count, drawn in score_nulls.items():
            here = defined & (counts == count)
            quantile[here] = drawn.quantile(n_varying[here], alpha)
        return quantile

    return Scores(
        values=np.where(defined, np.maximum(scale, location), np.nan),
        details={"scale": scale, "location": location, "n_varying": n_varying.astype(np.float64)},
        rule=_rule(view, pool, n_varying[defined]),
        notes=tuple(dict.fromkeys(notes)),
        null_quantile=null_quantile,
    )


def scale_part(mean: Floats, variance: Floats) -> Floats:
    """Return 4 ln( mean r^(1/2) / (mean r^(1/4))^2 ) over the last axis."""
    centred = mean - mean.mean(axis=-1, keepdims=True)
    root = np.sqrt(variance + centred * centred)
    quarter = np.sqrt(root).mean(axis=-1)
    return np.asarray(4 * np.log(root.mean(axis=-1) / (quarter * quarter)))


def location_part(mean: Floats, variance: Floats) -> Floats:
    """Return -ln(1 - var_f(m_f) / V) / 2 over the last axis, that is ln(V / mean_f v_f) / 2."""
    within = variance.mean(axis=-1)
    return np.asarray(np.log1p(mean.var(axis=-1) / within) / 2)


def _parts_of_records(view: BatchView, defined: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    records = view.records[defined]
    scale, location = np.zeros(len(view.records)), np.zeros(len(view.records))
    quarter = records["mean_quarter"]
    scale[defined] = 4 * np.log(records["mean_root"] / (quarter * quarter))
    between = records["location_variance"]
    location[defined] = np.log1p(between / np.maximum(records["pooled_variance"] - between, 1e-300)) / 2
    return scale, location


class _Larger:
    """The score of drawn batches: the larger part less its null mean."""

    def __init__(self, scale_null: Null, location_null: Null) -> None:
        self._scale_null, self._location_null = scale_null, location_null

    def __call__(self, mean: Floats, variance: Floats) -> Floats:
        n = np.array([mean.shape[-1]])
        scale = scale_part(mean, variance) - self._scale_null.mean(n)
        return np.maximum(scale, location_part(mean, variance) - self._location_null.mean(n))


def _rule(view: BatchView, pool: Floats, n_varying: NDArray[np.int64]) -> dict[str, object]:
    """Return the null means by number of values, at the usual number of varying features."""
    largest = int(view.batch_size * view.profile.schema.values_per_row)
    smaller = {2, 3, *(1 << k for k in range(2, 12) if 1 << k < largest)}
    # The batches' own counts, of which the last may be odd, and some between: evaluation batches may be smaller.
    counts = sorted(count for count in smaller | set(view.counts.astype(int).tolist()) if 2 <= count <= largest)
    if not len(n_varying):
        counts = []
    typical = np.array([int(np.median(n_varying))]) if counts else n_varying
    scale, location = [], []
    for count in counts:
        alike = AlikeFeatures(pool, count)
        if not alike.enough:
            alike = AlikeFeatures(normal_pool(), count)
        scale.append(float(alike.null(typical, scale_part).mean(typical)[0]))
        location.append(float(alike.null(typical, location_part).mean(typical)[0]))
    return {
        "measure": "spread_divergence",
        "counts": counts,
        "scale_null": scale,
        "location_null": location,
        "feature_axis": view.profile.feature_axis,
    }


def _explain(details: Mapping[str, float]) -> str:
    scale, location = details["scale"], details["location"]
    features = f"its {details['n_varying']:.0f} varying features"
    if max(scale, location) < 0.02:
        return f"{features} are alike"
    what = "scales" if scale >= location else "means"
    return f"{features} differ in their {what} (scales {scale:.3g}, means {location:.3g} nats)"


measures.register("spread_divergence")(Measure(spread_divergence, _explain, "nats", frozenset({"null"})))
