"""`spread_divergence`: how unlike each other a batch's features are in scale or in location, in nats.

With m_f, v_f the moments of the features that vary within the batch, m, V the pooled mean and variance and
r_f = v_f + (m_f - m)^2:

    scale    = 7 ln mean_f r_f^(1/2) - 12 ln mean_f r_f^(1/4) - ln( mean_f r_f ) / 2
    location = -ln( 1 - var_f(m_f) / V ) / 2

each less its mean when all features are alike; the score is the larger. Both estimate the divergence H of
`gaussian_divergence` where only scales, or only locations, differ: for scales log-normal(s), H = s^2, and so are
q = 4 ln( mean r^(1/2) / (mean r^(1/4))^2 ) and p = ln( mean r / (mean r^(1/2))^2 ), for any common shape of the
features, since moments of a product of independent factors are the products of theirs. The scale part is
(3 q - p) / 2: p answers most to single features far out, which heavy tails make by themselves, and taking some of it
off lowers the noise more than the effect. H itself averages ln v_f, which at small B varies far more. Powers of r_f
instead of v_f use that alike features share a location. docs/calibration.md has what each step brought.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from assessor.errors import SettingError
from assessor.measures.scores import Measure, Reach, Scores, measures
from assessor.measures.spread_null import SpreadNull, fit_null
from assessor.measures.spread_parts import location_part, scale_from, scale_part
from assessor.measures.varying import defined_batches, notes_on
from assessor.moments import Floats
from assessor.view import BatchView

__all__ = ["location_part", "scale_part", "spread_divergence"]


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
    defined = defined_batches(view)
    scale, location = _parts_of_records(view, defined)
    alike = fit_null(view, defined, scale, location, own=null == "residual")
    scale, location = scale - alike.scale_mean, location - alike.location_mean

    notes = list(notes_on(view, defined))
    if alike.fell_back and null == "residual":
        why = "there is no calibration sample" if not alike.pool.values.size else "too few residuals differ"
        notes.append(f"the null is that of normal data, since {why}")
    if alike.n_kinds > 1:
        notes.append(
            "the batches fall into two kinds; the null takes the residuals of each kind about its own means and scales"
        )

    def reach(cutoffs: Floats) -> Reach:
        found = alike.reach(cutoffs[defined])
        columns = {name: _fill(defined, column, np.nan) for name, column in found.details.items()}
        return Reach(columns, found.notes)

    return Scores(
        values=_fill(defined, np.maximum(scale, location), np.nan),
        details={
            "scale": _fill(defined, scale, 0.0),
            "location": _fill(defined, location, 0.0),
            "n_varying": view.records["n_varying"].astype(np.float64),
        },
        rule=_rule(view, alike, view.records["n_varying"][defined].astype(np.int64)),
        notes=tuple(dict.fromkeys(notes)),
        null_quantile=lambda alpha: _fill(defined, alike.quantile(alpha), 0.0),
        reach=reach,
    )


def _parts_of_records(view: BatchView, defined: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    records = view.records[defined]
    between, pooled = records["location_variance"], records["pooled_variance"]
    scale = scale_from(pooled, records["mean_root"], records["mean_quarter"])
    return scale, np.asarray(np.log1p(between / np.maximum(pooled - between, 1e-300)) / 2)


def _fill(defined: NDArray[np.bool_], column: Floats, other: float) -> Floats:
    """Return the column of the batches that have a score, with another value for the rest."""
    filled = np.full(len(defined), other)
    filled[defined] = column
    return filled


def _rule(view: BatchView, alike: SpreadNull, n_varying: NDArray[np.int64]) -> dict[str, object]:
    """Return the null means by number of values, at the usual number of varying features."""
    largest = int(view.batch_size * view.profile.schema.values_per_row)
    smaller = {2, 3, *(1 << k for k in range(2, 12) if 1 << k < largest)}
    # The batches' own counts, of which the last may be odd, and some between: evaluation batches may be smaller.
    counts = sorted(count for count in smaller | set(view.counts.astype(int).tolist()) if 2 <= count <= largest)
    if not len(n_varying):
        counts = []
    means = [alike.means(count, int(np.median(n_varying))) for count in counts]
    return {
        "measure": "spread_divergence",
        "counts": counts,
        "scale_null": [scale for scale, _ in means],
        "location_null": [location for _, location in means],
        "feature_axis": view.profile.feature_axis,
    }


def _explain(details: Mapping[str, float]) -> str:
    scale, location = details["scale"], details["location"]
    features = f"its {details['n_varying']:.0f} varying features"
    what = "scales" if scale >= location else "means"
    said = f"{features} differ in their {what} (scales {scale:.3g}, means {location:.3g} nats)"
    if max(scale, location) < 0.02:
        said = f"{features} are alike"
    if "found_scales" not in details:
        return said
    return (
        f"{said}; at its size about {details['found_scales']:.0%} of the batches with scales log-normal(0.5) are "
        f"found and {details['found_means']:.0%} of those with means one standard deviation apart"
    )


measures.register("spread_divergence")(Measure(spread_divergence, _explain, "nats", frozenset({"null"})))
