"""`location_share`: the share of a batch's variance that lies between its features' means.

eta^2 = var_f(m_f) / V over the features that vary within the batch (FORMULAS 2.4): the effect size of a one-way
analysis of variance with the features as groups. Unchanged under x -> a x + b. Small batches alone make it positive;
epsilon^2 takes that bias off:

    epsilon^2 = ( SS_between - (F - 1) MS_within ) / SS_total = eta^2 - (1 - eta^2) (F - 1) / (F (B - 1))

Source: Kelley 1935, doi:10.1073/pnas.21.9.554 (epsilon squared).
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import betaincinv

from assessor.errors import SettingError
from assessor.measures.scores import Measure, Scores, measures
from assessor.measures.varying import defined_batches, notes_on
from assessor.moments import Floats
from assessor.view import BatchView


def location_share(view: BatchView, *, corrected: bool = False) -> Scores:
    """Return the share of the variance between the features' means in each batch, eta squared, 0 to 1.

    Features that do not vary within the batch are left out. NaN for one value per feature and where no feature varies.
    The null is exact for normal features of one mean and variance: eta^2 is then Beta((F - 1)/2, F (B - 1)/2).

    Args:
        corrected: epsilon squared instead, whose mean is 0 for alike features; it may be below 0.

    Raises:
        SettingError: `corrected` is not a bool.
    """
    if not isinstance(corrected, bool):
        raise SettingError(f"expected corrected=True or False; got {corrected!r:.80}")
    records, defined = view.records, defined_batches(view)
    n_varying = np.maximum(records["n_varying"], 1).astype(np.float64)
    within_values = n_varying * np.maximum(view.counts - 1, 1)

    def share(eta: Floats) -> Floats:
        return eta - (1 - eta) * (n_varying - 1) / within_values if corrected else eta

    eta = records["location_variance"] / np.where(defined, records["pooled_variance"], 1.0)

    def null_quantile(alpha: float) -> Floats:
        several = n_varying > 1
        drawn = betaincinv(np.where(several, (n_varying - 1) / 2, 1.0), within_values / 2, 1 - alpha)
        return share(np.where(several, drawn, 0.0))

    return Scores(
        values=np.where(defined, share(eta), np.nan),
        details={"n_varying": records["n_varying"].astype(np.float64)},
        rule={"measure": "location_share", "corrected": corrected, "feature_axis": view.profile.feature_axis},
        notes=notes_on(view, defined),
        null_quantile=null_quantile,
    )


def _explain(details: Mapping[str, float]) -> str:
    return f"the share of the variance that lies between the means of its {details['n_varying']:.0f} varying features"


measures.register("location_share")(Measure(location_share, _explain, "", frozenset({"corrected"})))
