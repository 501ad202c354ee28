"""Iterable datasets: nothing is known of a batch before it is read, so a rule decides on it then.

What cannot be had without knowing the samples: a plan, a shuffle, batches dealt out to ranks, and a
position to resume at. As under torch's DataLoader, the dataset shares itself among workers
(`get_worker_info`) and ranks.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch.utils.data import DataLoader, default_collate

from assessor import NonFiniteError, Plan, Profile
from assessor.methods import choose
from clients.agreement import in_group
from clients.batches import AssessedBatch
from clients.collating import score
from clients.errors import LoaderError, SampleError
from clients.sampler import Run
from clients.samples import InputKey
from clients.standardize import standardize_in

# A worker does not know how many batches the others have made; AssessedLoader counts them.
UNCOUNTED = -1


def stream_rule(
    plan: Plan | None,
    *,
    method: str,
    threshold: float | str | None,
    feature_axis: str,
    reference: Profile | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the rule for a stream: the plan's, or that of a method or measure with a cutoff given as a number.

    Raises:
        LoaderError: neither a plan nor a number; a method whose rule needs more of the data, such as its class means
            or the scores of alike batches; an option that the measure does not take.
    """
    if plan is not None:
        return dict(plan.rule)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise LoaderError(
            "expected plan=, or threshold= as a number, with an iterable dataset: its batches are scored as they "
            f"are read, against a cutoff that must be known; got threshold={threshold!r}. Assess a sample of the "
            "data once and give its plan"
        )
    if not math.isfinite(threshold):
        raise LoaderError(f"expected a finite number as threshold of an iterable dataset; got {threshold!r}")
    measure, _ = choose(method, threshold)
    rules: dict[str, dict[str, Any]] = {
        "standard_divergence": {"constant_features": [], "constant_log_variance": None},
        "gaussian_divergence": {"bias": 0.0},
        "scale_dispersion": {},
        "location_share": {"corrected": False},
        "bartlett": {},
    }
    if reference is not None:
        moments = reference.moments
        of_reference = {"reference_mean": moments.mean.tolist(), "reference_variance": moments.variance.tolist()}
        rules["population_divergence"] = of_reference
    if measure not in rules:
        reached = ", ".join(["need", "gaussian", *list(rules)[2:]])
        raise LoaderError(
            f"expected method among {reached} with a cutoff alone; got {method!r}, which needs more of the "
            "data than a cutoff: assess a sample of it once and give its plan"
        )
    given = dict(options or {})
    if unknown := [name for name in given if measure != "location_share" or name != "corrected"]:
        raise LoaderError(
            f"expected no option {unknown[0]!r} of method {method!r} with a cutoff alone; got {given[unknown[0]]!r}: "
            "assess a sample of the data once and give its plan"
        )
    return {"measure": measure, **rules[measure], **given, "feature_axis": feature_axis, "cutoff": float(threshold)}


class CollateStream:
    """collate_fn: the user's own, with the rule's decision put beside its result."""

    def __init__(
        self,
        collate_fn: Callable[[list[Any]], Any],
        *,
        rule: Mapping[str, Any],
        input_key: InputKey,
        nonfinite: str,
        standardize: bool,
    ) -> None:
        self.collate_fn = collate_fn
        self.rule = rule
        self.input_key = input_key
        self.nonfinite = nonfinite
        self.standardize = standardize

    def __call__(self, samples: list[Any]) -> AssessedBatch[Any]:
        """Return the collated batch with the decision on it."""
        places = range(len(samples))
        try:
            decision = score(
                self.rule, samples, places, input_key=self.input_key, nonfinite=self.nonfinite, number=UNCOUNTED
            )
        except (SampleError, NonFiniteError) as error:
            raise type(error)(f"in a batch of a stream, whose samples are numbered from 0: {error}") from error
        batch = self.collate_fn(samples)
        if self.standardize and decision.normalize:
            batch = standardize_in(batch, self.input_key)
        return AssessedBatch(batch, decision)


class StreamFeed:
    """An iterable dataset's batches, each with the rule's decision.

    Args:
        dataset: iterable.
        rule: `Plan.rule`.
        plan: where the rule is from, if anywhere.
        input_key: what is scored.
        nonfinite: what becomes of samples with NaN or infinity, see `score`.
        standardize: hand out flagged batches standardized.
        dataloader_class: torch's DataLoader or one made like it.
        arguments: of it.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        rule: Mapping[str, Any],
        plan: Plan | None,
        input_key: InputKey,
        nonfinite: str,
        standardize: bool,
        dataloader_class: type[DataLoader[Any]],
        arguments: Mapping[str, Any],
    ) -> None:
        self.dataset = dataset
        self.rule = rule
        self._plan = plan
        self._input_key = input_key
        self._nonfinite = nonfinite
        self._standardize = standardize
        self._class = dataloader_class
        self._arguments = arguments
        self._epoch = 0
        self.agree = False
        self.run: Run | None = None

    @property
    def plan(self) -> Plan:
        """The plan given. Raises LoaderError: none was."""
        if self._plan is None:
            raise LoaderError(
                "expected a plan; an iterable dataset has none of its own: its batches are scored as they are read"
            )
        return self._plan

    @cached_property
    def dataloader(self) -> DataLoader[AssessedBatch[Any]]:
        """A plain DataLoader of (batch, decision) pairs, whose decisions are numbered -1."""
        arguments = dict(self._arguments)
        collate = CollateStream(
            arguments.pop("collate_fn", None) or default_collate,
            rule=self.rule,
            input_key=self._input_key,
            nonfinite=self._nonfinite,
            standardize=self._standardize,
        )
        # the dataset itself, without a view around it: its workers, length and state are torch's affair
        return self._class(self.dataset, collate_fn=collate, **arguments)

    def __len__(self) -> int:
        return len(self.dataloader)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch; the dataset is told where it has `set_epoch`."""
        self._epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def begin(self) -> tuple[Iterator[AssessedBatch[Any]], None]:
        """Return the next epoch's batches, numbered as they come; nothing is known of the other ranks'."""
        batches = iter(self.dataloader)
        self._epoch += 1
        numbered = (
            AssessedBatch(batch, replace(decision, index=number)) for number, (batch, decision) in enumerate(batches)
        )
        return numbered, None

    def held_by(self, iterator: Iterator[Any]) -> None:
        """Do nothing: no epoch is kept."""

    @property
    def has_others(self) -> bool:
        """Return whether other ranks train at the same time."""
        return in_group()

    def tells_others(self, epoch: int) -> bool:
        """Return False: there is no plan that would tell."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Raise LoaderError: a stream has no position that could be found again."""
        raise _no_position()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise LoaderError: a stream has no position that could be found again."""
        raise _no_position()


def _no_position() -> LoaderError:
    return LoaderError(
        "expected a map-style dataset to save a position in; an iterable one has none that can be found again: save "
        "the dataset's own, or give dataloader_class=torchdata's StatefulDataLoader and save loader.dataloader's"
    )
