"""Does a plan belong to the batches that a loader would yield?"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assessor import FingerprintError, Plan
from clients.assessing import Assessment
from clients.epochs import count_batches
from clients.errors import PlanMismatchWarning

OnMismatch = Literal["error", "warn", "rescore"]


@dataclass(frozen=True)
class Settled:
    """The plan that a loader carries out.

    Attributes:
        plan: its decisions are taken for the batches held.
        held: per batch of the loader whether the plan holds it; None for all.
    """

    plan: Plan
    held: NDArray[np.bool_] | None = None


def mismatch(plan: Plan, *, n_rows: int, batch_size: int, drop_last: bool) -> FingerprintError | None:
    """Return what differs between the plan's batches and the loader's, None if nothing does."""
    try:
        plan.check_order(plan.order, n_rows, batch_size, drop_last)
    except FingerprintError as error:
        return error
    return None


def held_batches(plan: Plan, *, n_rows: int, batch_size: int, drop_last: bool) -> NDArray[np.bool_]:
    """Return for each batch of the loader whether the plan's batch of that number has its ids.

    Args:
        plan: made in the order in which the loader lays out its samples.
        n_rows: samples of the loader's dataset.
        batch_size: of the loader.
        drop_last: of the loader.
    """
    held = np.zeros(count_batches(n_rows, batch_size, drop_last=drop_last), bool)
    if batch_size != plan.batch_size:
        return held
    complete = min(n_rows, plan.n_rows) // batch_size
    rows = complete * batch_size
    same = plan.order.ids(n_rows)[:rows] == plan.order.ids(plan.n_rows)[:rows]
    held[:complete] = same.reshape(complete, batch_size).all(axis=1)
    if n_rows == plan.n_rows and not plan.drop_last:
        held[complete:] = True
    return held


def settle(
    given: Plan | None,
    assessment: Assessment,
    *,
    n_rows: int,
    on_mismatch: OnMismatch,
    assess: Callable[[Assessment], Plan],
) -> Settled:
    """Return the plan to carry out: the given one where it fits, else what on_mismatch says.

    Args:
        given: the user's plan, or None.
        assessment: what the loader would assess.
        n_rows: samples of the loader's dataset.
        on_mismatch: "error", "warn" or "rescore".
        assess: runs an assessment.

    Raises:
        FingerprintError: the plan is for other batches and on_mismatch is "error", or it is
            "warn" and the plan holds none of the loader's batches.
    """
    if given is None:
        return Settled(assess(assessment))
    sizes: dict[str, Any] = {
        "n_rows": n_rows,
        "batch_size": assessment.batch_size,
        "drop_last": assessment.drop_last,
    }
    error = mismatch(given, **sizes)
    if error is None:
        return Settled(given)
    if on_mismatch == "rescore":
        return Settled(assess(_as_planned(given, assessment)))
    held = held_batches(given, **sizes)
    if on_mismatch == "error" or not held.any():
        raise FingerprintError(f"{error}; AssessedLoader(..., on_mismatch='rescore') assesses again")
    warnings.warn(
        f"{error}. on_mismatch='warn': {int(held.sum())} of {len(held)} batches hold the same "
        "sample ids as in the plan and keep its decisions (their contents are taken to be the "
        "same); the others are scored by the plan's rule as they are read",
        PlanMismatchWarning,
        stacklevel=2,
    )
    return Settled(given, held)


def _as_planned(plan: Plan, assessment: Assessment) -> Assessment:
    """Return the assessment with the plan's method, its order and, unless one is set, its threshold."""
    threshold = plan.threshold if assessment.threshold is None else assessment.threshold
    options = dict(assessment.options)
    if plan.rule.get("published_exact"):
        options.setdefault("published_exact", True)
    return replace(
        assessment,
        method=plan.method,
        order=plan.order,
        threshold=threshold,
        feature_axis=str(plan.rule.get("feature_axis", assessment.feature_axis)),
        options=options,
    )
