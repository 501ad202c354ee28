"""Whole numbers at even distances, which take no memory however many they are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

RUN = 1 << 16
"""Numbers that are made at a time where all are gone through."""


class Steps:
    """The numbers of a range, computed where they are asked for: they act as an array of int64.

    Args:
        numbers: the range.
        at_most: larger ones are this.

    >>> bounds = Steps(range(0, 12, 4), at_most=7)
    >>> len(bounds), bounds[1], bounds[np.array([2, 0])].tolist(), np.asarray(bounds[1:]).tolist()
    (3, 4, [7, 0], [4, 7])
    """

    def __init__(self, numbers: range, *, at_most: int | None = None) -> None:
        self._numbers = numbers
        self._at_most = at_most

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, key: Any) -> Any:
        """Return a number for a number, an array for an array of numbers >= 0, steps for a slice."""
        if isinstance(key, slice):
            return Steps(self._numbers[key], at_most=self._at_most)
        if isinstance(key, np.ndarray):
            return self._bounded(self._numbers.start + self._numbers.step * key.astype(np.int64, copy=False))
        return int(self._bounded(np.int64(self._numbers[key])))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the array of int64."""
        if copy is False:
            raise ValueError("expected copy=None or True; these numbers are in no memory until they are asked for")
        numbers = self._numbers
        array: NDArray[Any] = self._bounded(np.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int64))
        return array if dtype is None else array.astype(dtype)

    def _bounded(self, values: Any) -> Any:
        return values if self._at_most is None else np.minimum(values, self._at_most)


Numbers = NDArray[Any] | Steps
"""Numbers of samples or batches, integers >= 0."""


def in_runs(count: int, *, run: int = RUN) -> Iterator[NDArray[np.int64]]:
    """Yield 0 to count - 1, some at a time.

    >>> [part.tolist() for part in in_runs(5, run=2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, count, run):
        yield np.arange(start, min(count, start + run), dtype=np.int64)
