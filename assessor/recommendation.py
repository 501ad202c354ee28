"""What to do with a dataset as a whole, in words, from its scores and their decomposition, and from the study."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from assessor.advice import Advice
from assessor.measures.scores import Scores
from assessor.noise import drift_limit, many_samples, noise
from assessor.view import BatchView

ACTIONS = ("nothing", "scale", "standardize", "normalize", "unknown")
"""Nothing; one shift and scale for the dataset; each feature standardized once; flagged batches; no evidence."""

SCALE_NATS = 0.1
"""One shift and scale for the dataset is enough where no more than this is left after it; elsewhere each feature is
standardized. At most the cutoff was the first rule; between the two standardizing did better (docs/evidence.md, 3)."""

SOME = 0.02
"""Where more than this share of the batches is flagged and more than this share is not, there are two kinds."""


STUDY = "; in the study's cells nearest to this data: "
"""Stands between the rule's own words and the advice."""


@dataclass(frozen=True)
class Recommendation:
    """What to do with the dataset.

    Attributes:
        action: one of ACTIONS, for programs.
        text: the same in words, with the reason and the numbers to do it with.
    """

    action: str
    text: str


def recommend(
    view: BatchView, scores: Scores, normalize: NDArray[np.bool_], cutoff: float, advice: Advice
) -> Recommendation:
    """Return what to do with the dataset as a whole.

    The action follows from the scores alone: it says what the data need, whatever studies there are. The text adds the
    first choice of the advice where its evidence is enough.
    """
    needed = _needed(view, scores, normalize, cutoff)
    return replace(needed, text=with_advice(needed.text, advice))


def with_advice(text: str, advice: Advice) -> str:
    """Return a recommendation with the first choice of the advice, in place of that of another one; as it is without.

    >>> with_advice("nothing" + STUDY + "layer", Advice("unknown", (), "not enough evidence", ""))
    'nothing'
    """
    own = text.partition(STUDY)[0]
    return own if advice.action == "unknown" else own + STUDY + advice.text


def _needed(view: BatchView, scores: Scores, normalize: NDArray[np.bool_], cutoff: float) -> Recommendation:
    flagged = float(normalize.mean())
    if np.isnan(scores.values).all():
        return Recommendation("unknown", "not enough evidence: no batch has a defined score")
    if flagged == 0:
        return Recommendation("nothing", f"nothing: no batch needs normalization{_which_norm(view)}")
    parts = scores.decomposition
    if parts is None:
        return Recommendation("normalize", f"normalize the flagged batches, {flagged:.0%} of all{_which_norm(view)}")
    drift, feature = parts["drift"], parts["feature"]
    some_only = SOME < flagged < 1 - SOME
    if drift > drift_limit(parts["noise"]) and (some_only or drift > cutoff):
        return Recommendation(
            "normalize",
            f"normalize the flagged batches, {flagged:.0%} of all: batches are unlike each other "
            f"(drift {drift:.3g} nats), as when several sources are mixed{_which_norm(view)}",
        )
    mean_score = parts["global"] + feature + drift
    if mean_score <= cutoff:
        return Recommendation(
            "nothing",
            f"nothing for the dataset as a whole (mean score {mean_score:.3g} nats); the plan normalizes the "
            f"{flagged:.1%} of batches that stand out{_which_norm(view)}",
        )
    if feature + drift <= SCALE_NATS:
        return Recommendation(
            "scale",
            f"scale globally: subtract {_pooled(view)} "
            f"(global {parts['global']:.3g} nats; {max(feature + drift, 0.0):.3g} remain){_which_norm(view)}",
        )
    return Recommendation(
        "standardize",
        "standardize features once over the dataset: one shift and scale for all would leave "
        f"{feature + drift:.3g} nats (feature {max(feature, 0.0):.3g}, drift {max(drift, 0.0):.3g}){_which_norm(view)}",
    )


def _pooled(view: BatchView) -> str:
    moments = view.profile.moments
    varies = moments.m2 > 0
    mean = moments.mean[varies]
    std = np.sqrt(moments.variance[varies].mean() + mean.var())
    return f"{mean.mean():.4g} and divide by {std:.4g}, once for the whole dataset"


def _which_norm(view: BatchView) -> str:
    count = view.batch_size * view.profile.schema.values_per_row
    if count < 2:
        return ""
    added = float(noise(count))
    few, prefer = ("only ", "batch norm") if many_samples(added) else ("", "layer norm")
    return (
        f"; batch statistics of {view.batch_size} samples add {few}{added:.2g} nats of noise: "
        f"where hidden layers have a norm, take {prefer}"
    )
