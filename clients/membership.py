"""Which samples form which batch, as arrays of ids."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.epochs import count_batches
from clients.errors import LoaderError
from clients.steps import RUN, Numbers, Steps


class Batches:
    """Batches of sample ids: batch i holds `ids[bounds[i] : bounds[i + 1]]`.

    Args:
        ids: shape (n,).
        bounds: shape (batches + 1,), rising from 0.

    >>> Batches.cut(np.arange(5), 2, drop_last=False).lists(np.array([2, 0]))
    [[4], [0, 1]]
    """

    def __init__(self, ids: Numbers, bounds: Numbers) -> None:
        self.ids = ids
        self.bounds = bounds

    @classmethod
    def cut(cls, ids: Numbers, batch_size: int, *, drop_last: bool) -> "Batches":
        """Return the batches of batch_size consecutive ids; the last may be smaller unless drop_last."""
        count = count_batches(len(ids), batch_size, drop_last=drop_last)
        return cls(ids, Steps(range(0, (count + 1) * batch_size, batch_size), at_most=len(ids)))

    @classmethod
    def listed(cls, lists: Iterable[Sequence[int]]) -> "Batches":
        """Return the batches that a batch sampler yields.

        Raises:
            LoaderError: an empty batch, or one of something other than integers.
        """
        parts = [as_ids(batch) for batch in lists]
        if any(len(part) == 0 for part in parts):
            raise LoaderError("expected batches of at least one sample id; the batch_sampler yields an empty one")
        bounds = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
        return cls(np.concatenate(parts) if parts else np.zeros(0, np.int64), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def lists(self, numbers: NDArray[np.int64]) -> list[list[int]]:
        """Return the ids of the batches of these numbers, of which there is at least one."""
        begins = self.bounds[numbers]
        sizes = self.bounds[numbers + 1] - begins
        if (sizes == sizes[0]).all():  # one call of NumPy for all
            lists: list[list[int]] = self.ids[begins[:, None] + np.arange(sizes[0])].tolist()
            return lists
        return [ids.tolist() for ids in self._each(numbers)]

    def keys(self, numbers: NDArray[np.int64]) -> Iterator[bytes]:
        """Yield for each batch of these numbers a name of what is in it, whatever the order within."""
        return (np.sort(ids).tobytes() for ids in self._each(numbers))

    def _each(self, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        ends = self.bounds[numbers + 1].tolist()
        for begin, end in zip(self.bounds[numbers].tolist(), ends, strict=True):
            yield np.asarray(self.ids[begin:end], np.int64)

    @property
    def usual_size(self) -> int:
        """The size that most batches have; of two as frequent ones the larger."""
        sizes, counts = np.unique(np.diff(self.bounds), return_counts=True)
        return int(sizes[counts == counts.max()].max())

    def digest(self) -> str:
        """Return the SHA-256 name of the batches in their order."""
        name = hashlib.sha256()
        for numbers in (self.ids, self.bounds):
            for start in range(0, len(numbers), RUN):
                name.update(np.asarray(numbers[start : start + RUN], "<i8").tobytes())
        return "sha256:" + name.hexdigest()


def as_ids(items: Iterable[int]) -> NDArray[np.int64]:
    """Return what a sampler yields as ids.

    Raises:
        LoaderError: not integers >= 0.
    """
    if not isinstance(items, Iterable):
        raise LoaderError(f"expected a batch_sampler of lists of indices; it yields {items!r}")
    listed = list(items)
    ids = np.asarray(listed if listed else np.zeros(0, np.int64))
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or (len(ids) and ids.min() < 0):
        raise LoaderError(
            f"expected a sampler of integer indices >= 0; got {listed[:3]!r}: a plan names samples by number"
        )
    return ids.astype(np.int64)
