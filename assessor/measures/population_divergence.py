"""`population_divergence`: how unlike the population a batch's own statistics are, in nats.

mean_f KL( N(m_f, v_f) || N(M_f, V_f) ) = mean_f ( (v_f + (m_f - M_f)^2) / V_f - 1 - ln(v_f / V_f) ) / 2,

M_f and V_f the feature's moments in a reference (FORMULAS 2.4): what normalizing by the batch's own statistics instead
of the population's would add. For alike batches of normal data with a large reference its mean is noise(B).

M_f and V_f must be known when a batch is read, since a profile keeps no moments per batch and feature: profile with
`profile_array(x, batch_sizes=..., reference=profile)`. For the dataset itself that is a second pass,
`profile_array(x, batch_sizes=..., reference=profile_array(x, batch_sizes=...))`; only the mean over complete batches of
one pass is known exactly without: drift + noise of the decomposition of `standard_divergence`.
"""

from collections.abc import Mapping

import numpy as np

from assessor.errors import SettingError
from assessor.kernels.tiles import TINY
from assessor.measures.scores import Measure, Scores, measures
from assessor.noise import noise
from assessor.view import BatchView


def population_divergence(view: BatchView) -> Scores:
    """Return the mean divergence of the features from the reference in each batch, in nats, >= 0.

    Features constant in the reference are left out and counted. A feature constant within a batch takes the log
    variance ln V_f - 2 noise(B), as in `standard_divergence`. NaN for one value per feature.

    Raises:
        SettingError: the profile was made without a reference.
    """
    reference, divergences = view.profile.reference, view.divergences
    if reference is None or divergences is None:
        raise SettingError(
            "expected a profile made with a reference for population_divergence; got one without: profile the data "
            "with reference=..., a profile of earlier data or of the same data"
        )
    batch_noise = np.broadcast_to(noise(view.counts), divergences.shape)
    active = reference.variance >= TINY
    n_constant = int((~active).sum())
    notes = []
    if n_constant:
        notes.append(f"{n_constant} of {len(active)} features are constant in the reference and left out")
    n_pairs = int(view.constant_batches[active].sum())
    if n_pairs:
        share = n_pairs / (int(active.sum()) * max(view.n_complete, 1))
        notes.append(
            f"{share:.1%} of the (batch, feature) pairs are constant within the batch; they take the reference's log "
            "variance less the noise"
        )
    if np.isnan(divergences).any():
        notes.append(
            f"{int(np.isnan(divergences).sum())} batches have one value per feature or no feature that varies in the "
            "reference: their score is undefined"
        )
    return Scores(
        values=divergences,
        details={"noise": batch_noise},
        rule={
            "measure": "population_divergence",
            "reference_mean": reference.mean.tolist(),
            "reference_variance": reference.variance.tolist(),
            "feature_axis": view.profile.feature_axis,
        },
        notes=tuple(notes),
    )


def _explain(details: Mapping[str, float]) -> str:
    return f"its features are that far from the reference; alike batches of its size show {details['noise']:.3g} nats"


measures.register("population_divergence")(Measure(population_divergence, _explain, "nats"))
