"""Booleans packed eight to a byte, which act as a read-only array of bool."""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

_STEP = 1 << 22
"""Bytes whose bits are counted, or compared, at a time."""


class PackedBits(NDArrayOperatorsMixin):
    """One axis of booleans, each in one bit: the first in the lowest of the first byte, as Arrow has them.

    A number gives one decision without touching the others; slices, arrays of numbers and masks give arrays of bool.
    NumPy's functions and operators take it as the array of bool that it stands for, one byte an element.

    Args:
        data: shape (bytes,), uint8, perhaps of a mapped file.
        n: how many booleans, at most 8 a byte.

    >>> bits = PackedBits.of(np.array([True, False, True]))
    >>> bool(bits[2]), len(bits), int(bits.sum()), bits[:2].tolist()
    (True, 3, 2, [True, False])
    """

    ndim = 1
    dtype = np.dtype(np.bool_)

    def __init__(self, data: NDArray[np.uint8], n: int) -> None:
        self._data = data[: -(-n // 8)]
        self._n = n

    @classmethod
    def of(cls, values: NDArray[np.bool_]) -> "PackedBits":
        """Return booleans, packed."""
        return cls(np.packbits(values, bitorder="little"), len(values))

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes; bits after the last boolean may be anything."""
        return self._data

    @property
    def shape(self) -> tuple[int]:
        """How many booleans."""
        return (self._n,)

    @property
    def size(self) -> int:
        """How many booleans."""
        return self._n

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self._data.nbytes

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[np.bool_]:
        return (self[k] for k in range(self._n))

    def __getitem__(self, key: Any) -> Any:
        """Return a bool for a number, an array for anything else that NumPy takes."""
        try:
            i = operator.index(key)
        except TypeError:
            return self._select(key)
        if not -self._n <= i < self._n:
            raise IndexError(f"index {i} is out of bounds for {self._n} booleans")
        i %= self._n
        return np.bool_(self._data[i >> 3] >> np.uint8(i & 7) & np.uint8(1))

    def _select(self, key: Any) -> NDArray[np.bool_]:
        if isinstance(key, slice):
            start, stop, step = key.indices(self._n)
            if step > 0:
                first = start >> 3
                part = np.unpackbits(self._data[first : -(-stop // 8)], bitorder="little").view(np.bool_)
                return part[start - 8 * first : max(start, stop) - 8 * first : step]
        places = np.asarray(key)
        if places.dtype.kind in "iu" and places.size:
            if places.min() < -self._n or places.max() >= self._n:
                raise IndexError(
                    f"indices from {places.min()} to {places.max()} are out of bounds for {self._n} booleans"
                )
            places = places % self._n
            return np.asarray(self._data[places >> 3] >> (places & 7).astype(np.uint8) & 1, np.bool_)
        return np.asarray(np.asarray(self)[key], np.bool_)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the array of bool."""
        if copy is False:
            raise ValueError("expected copy=None or True; packed bits cannot be seen as an array without copying them")
        array = np.unpackbits(self._data, count=self._n, bitorder="little").view(np.bool_)
        return array if dtype is None else array.astype(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply a function to the array of bool."""
        arrays = [np.asarray(value) if isinstance(value, PackedBits) else value for value in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def same(self, other: "PackedBits") -> bool:
        """Return whether these are the same booleans; whatever bits come after the last do not count.

        >>> PackedBits(np.array([0b111], np.uint8), 2).same(PackedBits(np.array([0b011], np.uint8), 2))
        True
        """
        whole = self._n // 8
        return (
            self._n == other._n
            and all(
                np.array_equal(self._data[at : min(at + _STEP, whole)], other._data[at : min(at + _STEP, whole)])
                for at in range(0, whole, _STEP)
            )
            and np.array_equal(self[8 * whole :], other[8 * whole :])
        )

    def sum(self) -> np.int64:
        """Return how many are True."""
        whole = self._n // 8
        counted = sum(
            int(np.bitwise_count(self._data[at : min(at + _STEP, whole)]).sum(dtype=np.int64))
            for at in range(0, whole, _STEP)
        )
        return np.int64(counted + int(self[8 * whole :].sum()))

    def mean(self) -> np.float64:
        """Return the share that is True; NaN of none."""
        return np.float64(self.sum() / self._n if self._n else np.nan)

    def any(self) -> bool:
        """Return whether one is True."""
        return bool(self.sum())

    def all(self) -> bool:
        """Return whether each is True."""
        return int(self.sum()) == self._n

    def astype(self, dtype: Any, copy: bool = True) -> NDArray[Any]:
        """Return an array of another type."""
        return np.asarray(self).astype(dtype)

    def tolist(self) -> list[bool]:
        """Return a list of bool."""
        values: list[bool] = np.asarray(self).tolist()
        return values

    def tobytes(self) -> bytes:
        """Return a byte for each, as an array of bool does."""
        return np.asarray(self).tobytes()

    def __repr__(self) -> str:
        return f"PackedBits({self._n} booleans, {self.nbytes} bytes)"
