"""Arrays that grow while a shard comes in, without a small array for each of its pieces."""

import mmap
import tempfile
import weakref
from typing import IO, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from assessor.errors import no_room

T = TypeVar("T", bound=np.generic)


class GrowingArray(Generic[T]):
    """One vector, longer with every call of `extend`; holds an eighth more than what it was given.

    A list of the pieces would cost some 100 bytes for each, more than their values where pieces are short, and all of
    them twice while they are joined.

    Args:
        dtype: of the values.
        in_memory_bytes: most of them to hold in memory; more wait in a temporary file, which goes with the array. None
            for all.

    >>> grown = GrowingArray(np.dtype(np.float64))
    >>> grown.extend(np.ones(2)), grown.extend(np.zeros(1)), grown.finish()
    (None, None, array([1., 1., 0.]))
    """

    def __init__(self, dtype: np.dtype[T], in_memory_bytes: int | None = None) -> None:
        self._dtype = dtype
        self._in_memory_bytes = in_memory_bytes
        self._bytes = bytearray()
        self._file: IO[bytes] | None = None
        self._filed_bytes = 0

    def extend(self, values: NDArray[Any]) -> None:
        """Take the next values, shape (n,), of the vector's dtype.

        Raises:
            NoRoomError: there is no room for the temporary file.
        """
        self._bytes += np.ascontiguousarray(values, self._dtype).tobytes()
        if self._in_memory_bytes is not None and len(self._bytes) > self._in_memory_bytes:
            self._write()

    def finish(self) -> NDArray[T]:
        """Return the vector, not copied: nothing can be added any more while it is in use.

        Raises:
            NoRoomError: as `extend`.
        """
        if self._file is None:
            return np.frombuffer(self._bytes, self._dtype)
        self._write()
        try:
            mapped = mmap.mmap(self._file.fileno(), self._filed_bytes, access=mmap.ACCESS_READ)
        except OSError as error:
            raise no_room(self._filed_bytes, error) from error
        return np.frombuffer(mapped, self._dtype)

    def __len__(self) -> int:
        """Return the number of values."""
        return (self._filed_bytes + len(self._bytes)) // self._dtype.itemsize

    def _write(self) -> None:
        """Move what is in memory to the file."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with this object
                weakref.finalize(self, self._file.close)
            left = memoryview(self._bytes)
            self._file.seek(self._filed_bytes)  # what an earlier attempt wrote of them is written again
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise no_room(self._filed_bytes + len(self._bytes), error) from error
        self._filed_bytes += len(self._bytes)
        self._bytes = bytearray()
