"""What a command's exit status says about plans, for scripts."""

from collections.abc import Sequence

import numpy as np

from assessor import Plan

DONE, FAILED, USAGE, FLAGGED, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 4, 130
DIFFERENT = FLAGGED
"""A diff that finds a difference has the status of a plan that flags."""


def read_condition(text: str) -> float:
    """Return the share of flagged batches above which a command fails.

    Args:
        text: "flagged" (any batch), or a share, "5%" or "0.05".

    Raises:
        ValueError: neither.

    >>> read_condition("flagged"), read_condition("5%"), read_condition("0.25")
    (0.0, 0.05, 0.25)
    """
    if text == "flagged":
        return 0.0
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = np.nan
    if not 0 <= share <= 1:
        raise ValueError(f"expected flagged, or a share such as 5% or 0.05; got {text!r}")
    return share


def status_of(plans: Sequence[Plan], limit: float | None) -> int:
    """Return the exit status of a command that made these plans.

    Args:
        plans: one or more.
        limit: share of flagged batches above which a plan fails; None: plans never fail.
    """
    if limit is None:
        return DONE
    if any(plan.flagged_fraction > limit for plan in plans):
        return FLAGGED
    if any(np.isnan(plan.scores).all() for plan in plans):
        return UNDECIDED
    return DONE
