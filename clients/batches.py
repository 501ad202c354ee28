"""What travels between the sampler, the workers and the training loop.

The sampler asks for a `BatchRequest` (sample ids and the batch's number), a worker reads it from a
`DatasetView` and returns an `AssessedBatch`: the decision is inside, so it cannot be confused with
another batch's, however far prefetching runs ahead and in whatever order workers finish.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from torch.utils.data import Dataset
from torch.utils.data._utils.pin_memory import pin_memory as pin

from assessor import Decision
from clients.errors import LoaderError

T = TypeVar("T")


class AssessedBatch(NamedTuple, Generic[T]):
    """A batch as the user's collate_fn made it, and the decision on it."""

    batch: T
    decision: Decision

    def __reduce__(self) -> tuple[Any, ...]:
        # the default takes twice the time on its way from a worker, 10 us: a decision is pickled as numbers
        d = self.decision
        return _assessed, (self.batch, d.index, d.normalize, d.score, d.cutoff, d.reason)

    def to(self, device: Any, **options: Any) -> "AssessedBatch[T]":
        """Return this batch with every tensor in it on the device (options as in Tensor.to)."""
        return AssessedBatch(move(self.batch, device, **options), self.decision)

    def pin_memory(self, device: str | None = None) -> "AssessedBatch[T]":
        """Return this batch with every tensor in it in pinned memory."""
        return AssessedBatch(pin(self.batch, device), self.decision)  # type: ignore[no-untyped-call]  # torch's own


def _assessed(batch: Any, *decision: Any) -> AssessedBatch[Any]:
    return AssessedBatch(batch, Decision(*decision))


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


class BatchRequest(NamedTuple):
    """What a worker is to read; a plain tuple of the same on the way to it, which is pickled faster.

    Attributes:
        ids: the samples.
        number: the batch's number in the epoch.
        planned: its number in the plan, -1 for one that the plan does not hold.
        step: the plan's numbers of the batches that all ranks train on at the same step, where
            they must agree.
    """

    ids: list[int]
    number: int
    planned: int
    step: tuple[int, ...] = ()


# (samples, what is scored of them if that is read apart, request): on the way to collate_fn, in
# the same process. Plain tuples, since one is made for every batch.
Fetched = tuple[list[Any], list[Any] | None, tuple[Any, ...]]


class DatasetView(Dataset[Any]):
    """The user's dataset, read batch by batch together with the request.

    Args:
        inner: the user's dataset.
        scored: the same samples as they are scored, where these are read apart.
    """

    def __init__(self, inner: Any, scored: Any = None) -> None:
        self.inner = inner
        self.scored = scored

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]

    def __getitems__(self, request: tuple[Any, ...]) -> Fetched:
        """Return the samples as DataLoader itself would read them, and the request."""
        if type(request) is not tuple:
            raise LoaderError(
                f"expected a batch request of AssessedLoader's sampler; got {type(request)}. "
                "Something replaced the sampler of loader.dataloader: keep it, and give rank and "
                "world_size to AssessedLoader itself"
            )
        ids, _, planned, _ = request
        apart = self.scored is not None and planned < 0
        scored = read_samples(self.scored, ids) if apart else None
        return read_samples(self.inner, ids), scored, request


def read_samples(dataset: Any, ids: Sequence[int]) -> list[Any]:
    """Return the samples of these ids, through `__getitems__` where the dataset has it."""
    if getattr(dataset, "__getitems__", None):
        samples: list[Any] = dataset.__getitems__(list(ids))
        return samples
    return [dataset[i] for i in ids]
