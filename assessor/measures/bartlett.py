"""`bartlett`: Bartlett's statistic for equal variances across a batch's features.

For F features of B values each, all that vary within the batch (FORMULAS 2.4):

    T = F (B - 1) ( ln mean_f v_f - mean_f ln v_f ) / ( 1 + (F + 1) / (3 F (B - 1)) )

which for normal features of equal variance is about chi-square with F - 1 degrees of freedom. It grows with B and F
where scales differ at all, and answers to heavy tails as to unequal scales: a test, not a size of effect. Unchanged
under x -> a x + b_f, any shift of each feature.

Source: Bartlett 1937, doi:10.1098/rspa.1937.0109.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import chdtrc, chdtri

from assessor.measures.scores import Measure, Scores, measures
from assessor.measures.varying import defined_batches, notes_on
from assessor.moments import Floats
from assessor.view import BatchView


def bartlett(view: BatchView) -> Scores:
    """Return Bartlett's statistic of each batch, >= 0, with its p-value in the details.

    Features that do not vary within the batch are left out. NaN for one value per feature and where fewer than two
    features vary. The null is the chi-square distribution, for normal features of equal variance.
    """
    records, defined = view.records, defined_batches(view, at_least=2)
    n_varying = np.maximum(records["n_varying"], 2).astype(np.float64)
    freedom = np.maximum(view.counts - 1, 1)
    logs = np.log(np.where(defined, records["mean_variance"], 1.0)) - np.where(defined, records["mean_log_variance"], 0)
    corrected = 1 + (n_varying + 1) / (3 * n_varying * freedom)
    statistic = np.maximum(n_varying * freedom * logs / corrected, 0.0)
    p_value = chdtrc(n_varying - 1, statistic)

    def null_quantile(alpha: float) -> Floats:
        return np.asarray(chdtri(n_varying - 1, alpha))

    return Scores(
        values=np.where(defined, statistic, np.nan),
        details={
            "p_value": np.where(defined, p_value, np.nan),
            "n_varying": records["n_varying"].astype(np.float64),
        },
        rule={"measure": "bartlett", "feature_axis": view.profile.feature_axis},
        notes=notes_on(view, defined),
        null_quantile=null_quantile,
    )


def _explain(details: Mapping[str, float]) -> str:
    return (
        f"equal variances of its {details['n_varying']:.0f} varying features have p = {details['p_value']:.2g} "
        "for normal data"
    )


measures.register("bartlett")(Measure(bartlett, _explain, ""))
