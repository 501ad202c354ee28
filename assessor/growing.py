"""Arrays that grow while a shard comes in, without a small array for each of its pieces."""

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


class GrowingArray(Generic[T]):
    """One vector, longer with every call of `extend`; holds an eighth more than what it was given.

    A list of the pieces would cost some 100 bytes for each, more than their values where pieces are short, and all of
    them twice while they are joined.

    >>> grown = GrowingArray(np.dtype(np.float64))
    >>> grown.extend(np.ones(2)), grown.extend(np.zeros(1)), grown.finish()
    (None, None, array([1., 1., 0.]))
    """

    def __init__(self, dtype: np.dtype[T]) -> None:
        self._dtype = dtype
        self._bytes = bytearray()

    def extend(self, values: NDArray[Any]) -> None:
        """Take the next values, shape (n,), of the vector's dtype."""
        self._bytes += np.ascontiguousarray(values, self._dtype).tobytes()

    def finish(self) -> NDArray[T]:
        """Return the vector, not copied: nothing can be added any more while it is in use."""
        return np.frombuffer(self._bytes, self._dtype)

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._bytes) // self._dtype.itemsize
