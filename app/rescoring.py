"""Another cutoff for a plan's own scores, where there is no profile to make a new plan from."""

from dataclasses import replace

import numpy as np

from assessor import Plan, Scores, SettingError
from assessor.measures.scores import FOUND
from assessor.moments import Floats
from assessor.thresholds import parse_threshold


def apply_threshold(plan: Plan, threshold: str) -> Plan:
    """Return the plan with the decisions that another threshold makes of its scores.

    The advice for the dataset needs the data's moments, which a plan has not; where batches stay flagged it is left
    out, and the plan says so.

    Args:
        plan: with any threshold.
        threshold: a cutoff ("1.5"), or a threshold method that needs the scores only.

    Raises:
        SettingError: not a threshold, or one that needs a profile ("null(0.01)").

    >>> from assessor import assess
    >>> x = np.random.default_rng(0).normal(5, 3, size=(64, 8))
    >>> apply_threshold(assess(x, batch_size=16), "1e6").flagged_fraction
    0.0
    """
    text, cut = parse_threshold(threshold)

    def no_null(alpha: float) -> Floats:
        raise SettingError(
            f"expected a threshold of the scores alone for a plan; got {text}, whose null({alpha:g}) comes from the "
            "data's profile: pass a profile saved with assess --profile"
        )

    scores = Scores(
        values=plan.scores,
        details=plan.details,
        rule=plan.rule,
        decomposition=plan.decomposition,
        null_quantile=no_null,
    )
    cutoffs = np.broadcast_to(np.asarray(cut(scores), np.float64), plan.scores.shape)
    with np.errstate(invalid="ignore"):
        normalize = plan.scores > cutoffs
    if np.isnan(plan.scores).all():
        action, advice = "unknown", "not enough evidence: no batch has a defined score"
    elif not normalize.any():
        action, advice = "nothing", "nothing: no batch needs normalization"
    else:
        action = "unknown"
        advice = "none from a plan alone; a plan made from the data's profile has one (normgauge plan what-if PROFILE)"
    return replace(
        plan,
        threshold=text,
        cutoffs=cutoffs,
        normalize=normalize,
        # What the plan's own cutoff finds is not what this one does.
        details={name: column for name, column in plan.details.items() if not name.startswith("found_")},
        action=action,
        recommendation=advice,
        notes=(
            *(note for note in plan.notes if FOUND not in note),
            f"{text} was applied to the scores of a plan made with {plan.threshold}",
        ),
        rule={**plan.rule, "cutoff": float(np.median(cutoffs))},
    )
