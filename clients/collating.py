"""collate_fn and worker_init_fn of the inner DataLoader: the user's own, with the decision beside."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import get_worker_info

from assessor import Decision, Plan
from clients.batches import AssessedBatch, BatchRequest, DatasetView, Fetched
from clients.samples import InputKey, check_finite, finite_rows, scored_tensor, stack
from clients.scoring import decide
from clients.standardize import standardize_in

# Bounds the memory for decisions kept in words, some 500 bytes each.
_WORDED_DECISIONS = 50_000


class CollateAssessed:
    """collate_fn: the user's own, with the decision put beside its result.

    A batch that the plan does not hold (samples drawn anew, or a dataset that has grown) is scored
    here, in the worker, by the plan's rule.
    """

    def __init__(
        self,
        collate_fn: Callable[[list[Any]], Any],
        *,
        plan: Plan,
        input_key: InputKey,
        nonfinite: str,
        standardize: bool,
    ) -> None:
        self.collate_fn = collate_fn
        self.plan = plan
        self.input_key = input_key
        self.nonfinite = nonfinite
        self.standardize = standardize
        self._worded: dict[int, Decision] = {}

    def __call__(self, fetched: Any) -> AssessedBatch[Any]:
        """Return the collated batch with its decision, standardized if that is asked and decided."""
        samples, _, request = fetched  # a Fetched; DataLoader's type for collate_fn is a list
        _, number, planned, step = request
        if planned == number and not step:
            # wording a decision takes 6 us, a twelfth of collating 32 small tensors; once is enough
            decision = self._worded.get(number) or self._word(number)
        else:
            decision = self._decide(fetched)
        batch = self.collate_fn(samples)
        if self.standardize and decision.normalize:
            batch = standardize_in(batch, self.input_key)
        # a third of the time that the class's own call takes, which is Python
        return tuple.__new__(AssessedBatch, (batch, decision))

    def _word(self, number: int) -> Decision:
        decision = self.plan[number]
        if len(self._worded) < _WORDED_DECISIONS:
            self._worded[number] = decision
        return decision

    def _decide(self, fetched: Fetched) -> Decision:
        samples, scored, plain = fetched
        request = BatchRequest(*plain)
        if request.planned < 0:
            chosen = samples if scored is None else scored
            return score(
                self.plan.rule,
                chosen,
                request.ids,
                input_key=self.input_key,
                nonfinite=self.nonfinite,
                number=request.number,
            )
        decision = replace(self.plan[request.planned], index=request.number)
        flagged = [place for place in request.step if self.plan.normalize[place]]
        if not flagged or decision.normalize:
            return decision
        others = f"batch {flagged[0]} of the same step, on another rank, is flagged"
        return replace(decision, normalize=True, reason=f"{decision.reason}; normalized all the same: {others}")


def score(
    rule: Mapping[str, Any],
    samples: list[Any],
    ids: Sequence[int],
    *,
    input_key: InputKey,
    nonfinite: str = "raise",
    number: int,
) -> Decision:
    """Return a rule's decision on samples as they were read.

    Args:
        rule: `Plan.rule`.
        samples: of one batch.
        ids: their numbers, for messages.
        input_key: what is scored; see `scored_tensor`.
        nonfinite: what becomes of samples with NaN or infinity, as in a plan: "raise"; "exclude": the batch is judged
            by the others; "normalize": it is flagged.
        number: to put into the decision.

    Raises:
        SampleError: a sample without a tensor to score, or unlike the first.
        NonFiniteError: a sample with NaN or infinity, and nonfinite is "raise".
    """
    rows = stack([scored_tensor(sample, input_key) for sample in samples], ids)
    if nonfinite == "raise":
        check_finite(rows, ids)
        return decide(rule, rows.numpy(), index=number)
    finite = finite_rows(rows)
    left_out = len(rows) - int(finite.sum())
    if not left_out:
        return decide(rule, rows.numpy(), index=number)
    cutoff, held = float(rule["cutoff"]), f"{left_out} of its samples hold values that are not finite"
    if nonfinite == "normalize":
        reason = f"{held}: normalize, as nonfinite='normalize' asks; scored by the rule"
        return Decision(index=number, normalize=True, score=math.inf, cutoff=cutoff, reason=reason)
    if len(rows) - left_out < 2:
        reason = f"{rule['measure']} undefined (too few samples are left): skipped; {held} and are left out"
        return Decision(index=number, normalize=False, score=math.nan, cutoff=cutoff, reason=reason)
    decision = decide(rule, rows[finite].numpy(), index=number)
    return replace(decision, reason=f"{decision.reason}; {held} and are left out")


class WorkerInit:
    """worker_init_fn: shows the user's own dataset in `get_worker_info()`, then calls theirs."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self.worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Prepare the worker process that this is called in."""
        info = get_worker_info()
        view = getattr(info, "dataset", None)
        if isinstance(view, DatasetView):
            # WorkerInfo refuses assignment, for users; seeing the view there would break theirs
            object.__setattr__(info, "dataset", view.inner)
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker_id)
