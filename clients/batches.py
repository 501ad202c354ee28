"""What travels between the sampler, the workers and the training loop.

The sampler asks for a `BatchRequest` (sample ids and the batch's number), a worker reads it from a
`DatasetView` and returns an `AssessedBatch`: the decision is inside, so it cannot be confused with
another batch's, however far prefetching runs ahead and in whatever order workers finish.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from torch.utils.data import Dataset, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory as pin

from assessor import Decision, Plan
from clients.errors import LoaderError
from clients.samples import InputKey, check_finite, scored_tensor, stack
from clients.scoring import decide
from clients.standardize import standardize_in

T = TypeVar("T")

# Bounds the memory for decisions kept in words, some 500 bytes each.
_WORDED_DECISIONS = 50_000


class AssessedBatch(NamedTuple, Generic[T]):
    """A batch as the user's collate_fn made it, and the decision on it."""

    batch: T
    decision: Decision

    def to(self, device: Any, **options: Any) -> "AssessedBatch[T]":
        """Return this batch with every tensor in it on the device (options as in Tensor.to)."""
        return AssessedBatch(move(self.batch, device, **options), self.decision)

    def pin_memory(self, device: str | None = None) -> "AssessedBatch[T]":
        """Return this batch with every tensor in it in pinned memory."""
        return AssessedBatch(pin(self.batch, device), self.decision)  # type: ignore[no-untyped-call]  # torch's own


def move(batch: Any, device: Any, **options: Any) -> Any:
    """Return the structure with everything that has `.to` on the device; the rest as it is."""
    if hasattr(batch, "to"):
        return batch.to(device, **options)
    if isinstance(batch, dict):
        return type(batch)({k: move(v, device, **options) for k, v in batch.items()})
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move(v, device, **options) for v in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(move(v, device, **options) for v in batch)
    return batch


class BatchRequest(list[int]):
    """The ids of one batch, with its number and whether the plan holds a decision on it."""

    def __init__(self, ids: Iterable[int], *, batch_index: int, planned: bool) -> None:
        super().__init__(ids)
        self.batch_index = batch_index
        self.planned = planned

    def __reduce__(self) -> tuple[Any, ...]:
        return _request, (list(self), self.batch_index, self.planned)


def _request(ids: list[int], batch_index: int, planned: bool) -> BatchRequest:
    return BatchRequest(ids, batch_index=batch_index, planned=planned)


class Fetched(NamedTuple):
    """The samples of a request on their way to collate_fn, in the same process."""

    samples: list[Any]
    request: BatchRequest


class DatasetView(Dataset[Any]):
    """The user's dataset, read batch by batch together with the request."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]

    def __getitems__(self, request: BatchRequest) -> Fetched:
        """Return the samples as DataLoader itself would read them, and the request."""
        if not isinstance(request, BatchRequest):
            raise LoaderError(
                f"expected a batch request of AssessedLoader's sampler; got {type(request)}. "
                "Something replaced the sampler of loader.dataloader: keep it, and give rank and "
                "world_size to AssessedLoader itself"
            )
        return Fetched(read_samples(self.inner, request), request)


def read_samples(dataset: Any, ids: Sequence[int]) -> list[Any]:
    """Return the samples of these ids, through `__getitems__` where the dataset has it."""
    if getattr(dataset, "__getitems__", None):
        samples: list[Any] = dataset.__getitems__(list(ids))
        return samples
    return [dataset[i] for i in ids]


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
        standardize: bool,
    ) -> None:
        self.collate_fn = collate_fn
        self.plan = plan
        self.input_key = input_key
        self.standardize = standardize
        self._worded: dict[int, Decision] = {}

    def __call__(self, fetched: Any) -> AssessedBatch[Any]:
        """Return the collated batch with its decision, standardized if that is asked and decided."""
        samples, request = fetched  # a Fetched; DataLoader's type for collate_fn is a list
        index = request.batch_index
        decision = self._planned(index) if request.planned else self._scored(samples, request)
        batch = self.collate_fn(samples)
        if self.standardize and decision.normalize:
            batch = standardize_in(batch, self.input_key)
        return AssessedBatch(batch, decision)

    def _planned(self, index: int) -> Decision:
        # wording a decision takes 6 us, a twelfth of collating 32 small tensors; once is enough
        decision = self._worded.get(index)
        if decision is None:
            decision = self.plan[index]
            if len(self._worded) < _WORDED_DECISIONS:
                self._worded[index] = decision
        return decision

    def _scored(self, samples: list[Any], request: BatchRequest) -> Decision:
        rows = stack([scored_tensor(sample, self.input_key) for sample in samples], request)
        check_finite(rows, request)
        return decide(self.plan.rule, rows.numpy(), index=request.batch_index)


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
