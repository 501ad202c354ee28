"""Does a plan belong to the batches that a loader would yield?"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assessor import FingerprintError, Plan
from clients.assessing import Assessment
from clients.epochs import count_batches
from clients.errors import PlanMismatchWarning, warn
from clients.membership import Batches
from clients.sources import (
    DrawnBatches,
    Lookup,
    SamplerBatches,
    Source,
    count_held,
    held_by_content,
    held_by_number,
    hold_none,
    lay_ids,
)
from clients.steps import Numbers, in_runs

OnMismatch = Literal["error", "warn", "rescore"]


@dataclass(frozen=True)
class Settled:
    """The plan that a loader carries out.

    Attributes:
        plan: its decisions are taken for the batches that `look_up` finds in it.
        look_up: from an epoch's batches to their numbers in the plan.
    """

    plan: Plan
    look_up: Lookup


def mismatch(plan: Plan, assessment: Assessment, n_rows: int) -> FingerprintError | None:
    """Return what differs between the plan's batches and the loader's, None if nothing does."""
    try:
        plan.check_order(assessment.order, n_rows, assessment.batch_size, assessment.drop_last)
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
    if n_rows == plan.n_rows or plan.order.kind == "rows":
        held[:complete] = True
    else:
        ids, planned = lay_ids(plan.order, n_rows), lay_ids(plan.order, plan.n_rows)
        for numbers in in_runs(complete):
            places = numbers[:, None] * batch_size + np.arange(batch_size)
            held[numbers] = (ids[places] == planned[places]).all(axis=1)
    if n_rows == plan.n_rows and not plan.drop_last:
        held[complete:] = True
    return held


def settle(
    given: Plan | None,
    assessment: Assessment,
    source: Source,
    *,
    n_rows: int,
    on_mismatch: OnMismatch,
    assess: Callable[[Assessment], Plan],
) -> Settled:
    """Return the plan to carry out: the given one where it fits, else what on_mismatch says.

    Args:
        given: the user's plan, or None.
        assessment: what the loader would assess, in the order of its own batches.
        source: the loader's batches.
        n_rows: samples in them.
        on_mismatch: "error", "warn" or "rescore".
        assess: runs an assessment.

    Raises:
        FingerprintError: the plan is for other batches and on_mismatch is "error".
    """
    if given is None:
        plan = assess(assessment)
        return Settled(plan, _look_up(plan, assessment, source, None))
    error = mismatch(given, assessment, n_rows)
    if error is None:
        return Settled(given, _look_up(given, assessment, source, None))
    own_sampler = isinstance(source, SamplerBatches)
    if on_mismatch == "rescore":
        order = assessment.order if own_sampler else given.order
        plan = assess(_as_planned(given, replace(assessment, order=order)))
        return Settled(plan, _look_up(plan, assessment, source, None))
    held = None
    if not own_sampler:
        held = held_batches(given, n_rows=n_rows, batch_size=assessment.batch_size, drop_last=assessment.drop_last)
    look_up = _look_up(given, assessment, source, held)
    if on_mismatch == "error":
        raise FingerprintError(f"{error}; AssessedLoader(..., on_mismatch='rescore') assesses again")
    batches = source.read(0)
    warn(
        f"{error}. on_mismatch='warn': {count_held(look_up, batches)} of {len(batches)} batches hold the same "
        "sample ids as in the plan and keep its decisions (their contents are taken to be the "
        "same); the others are scored by the plan's rule as they are read",
        PlanMismatchWarning,
    )
    return Settled(given, look_up)


def _look_up(plan: Plan, assessment: Assessment, source: Source, held: NDArray[np.bool_] | None) -> Lookup:
    if isinstance(source, DrawnBatches):
        return hold_none
    if not isinstance(source, SamplerBatches):
        return held_by_number(held)
    if plan.order == assessment.order:
        ids: Numbers = source.first.ids
    elif plan.order.kind == "explicit":
        return hold_none  # a saved plan does not tell which samples it holds
    else:
        ids = lay_ids(plan.order, plan.n_rows)
    return held_by_content(Batches.cut(ids, plan.batch_size, drop_last=plan.drop_last))


def _as_planned(plan: Plan, assessment: Assessment) -> Assessment:
    """Return the assessment with the plan's method and, unless one is set, its threshold."""
    threshold = plan.threshold if assessment.threshold is None else assessment.threshold
    options = dict(assessment.options)
    if plan.rule.get("published_exact"):
        options.setdefault("published_exact", True)
    return replace(
        assessment,
        method=plan.method,
        threshold=threshold,
        feature_axis=str(plan.rule.get("feature_axis", assessment.feature_axis)),
        options=options,
    )
