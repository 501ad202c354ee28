"""`scale_dispersion`: how much a batch's features differ in scale, relative to their mean scale.

std_f( v_f^(1/2) ) / mean_f( v_f^(1/2) ), the coefficient of variation of the features' standard deviations, over the
features that vary within the batch (FORMULAS 2.4). 0 where all scales are one; unchanged under x -> a x + b_f, any
shift of each feature. Small batches alone make it positive: for normal features alike in scale, about
(2 (B - 1))^(-1/2).
"""

from collections.abc import Mapping

import numpy as np

from assessor.measures.scores import Measure, Scores, measures
from assessor.measures.varying import defined_batches, notes_on
from assessor.view import BatchView


def scale_dispersion(view: BatchView) -> Scores:
    """Return the coefficient of variation of the standard deviations v_f^(1/2) in each batch; a ratio >= 0.

    Features that do not vary within the batch are left out. NaN for one value per feature and where no feature varies.
    Scales that agree to 1e-8 of their size count as equal, to rounding.
    """
    records, defined = view.records, defined_batches(view)
    mean_std = np.where(defined, records["mean_std"], 1.0)
    # mean_std^2 <= mean_variance by Jensen; the difference is the variance of v_f^(1/2) over features.
    excess = np.maximum(records["mean_variance"] / mean_std**2 - 1, 0.0)
    return Scores(
        values=np.where(defined, np.sqrt(excess), np.nan),
        details={"mean_std": records["mean_std"], "n_varying": records["n_varying"].astype(np.float64)},
        rule={"measure": "scale_dispersion", "feature_axis": view.profile.feature_axis},
        notes=notes_on(view, defined),
    )


def _explain(details: Mapping[str, float]) -> str:
    mean_std, n_varying = details["mean_std"], details["n_varying"]
    return f"the scales of its {n_varying:.0f} varying features differ around a mean of {mean_std:.3g}"


measures.register("scale_dispersion")(Measure(scale_dispersion, _explain, ""))
