"""What to do with a dataset as a whole, in words, from its scores and their decomposition."""

import numpy as np
from numpy.typing import NDArray

from assessor.measures.scores import Scores
from assessor.noise import noise
from assessor.view import BatchView

NOISY_NATS = 0.1
"""Above this noise(B) (batches below about 11 samples) batch statistics are advised against."""

SOME = 0.02
"""Where more than this share of the batches is flagged and more than this share is not, there are two kinds."""
DRIFT_NATS = 0.1
"""Drift beyond which two kinds of batches call for deciding batch by batch; alike batches show below 0.05."""


def recommend(view: BatchView, scores: Scores, normalize: NDArray[np.bool_], cutoff: float) -> str:
    """Return the recommendation: nothing; scale globally; standardize features once; normalize batches."""
    flagged = float(normalize.mean())
    if np.isnan(scores.values).all():
        return "not enough evidence: no batch has a defined score"
    if flagged == 0:
        return "nothing: no batch needs normalization"
    parts = scores.decomposition
    if parts is None:
        return f"normalize the flagged batches, {flagged:.0%} of all{_which_norm(view)}"
    drift = parts["drift"]
    some_only = SOME < flagged < 1 - SOME
    if drift > cutoff or (some_only and drift > DRIFT_NATS):
        return (
            f"normalize the flagged batches, {flagged:.0%} of all: batches are unlike each other "
            f"(drift {drift:.3g} nats), as when several sources are mixed{_which_norm(view)}"
        )
    mean_score = parts["global"] + parts["feature"] + drift
    if mean_score <= cutoff:
        return (
            f"nothing for the dataset as a whole (mean score {mean_score:.3g} nats); the plan normalizes the "
            f"{flagged:.1%} of batches that stand out"
        )
    if parts["feature"] + parts["drift"] <= cutoff:
        return (
            "scale globally: one shift and one scale for the whole dataset "
            f"(global {parts['global']:.3g} nats, what remains {parts['feature'] + parts['drift']:.3g})"
        )
    return (
        "standardize features once over the dataset: they are unlike each other "
        f"(feature {parts['feature']:.3g} nats, what remains {parts['drift']:.3g})"
    )


def _which_norm(view: BatchView) -> str:
    count = view.batch_size * view.profile.schema.values_per_row
    if count < 2:
        return ""
    added = float(noise(count))
    if added < NOISY_NATS:
        return f"; batch statistics of {view.batch_size} samples add only {added:.2g} nats of noise"
    return (
        f"; batch statistics of {view.batch_size} samples add {added:.2g} nats of noise: "
        "prefer batch_layer or layer norm where layers inside the network need one"
    )
