"""A bounded sample of rows that calibrates the null, the same for any cutting and order of the shards.

The rows with the smallest hash of (seed, global row number) are kept: a bottom-k sample, whose union is again one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.moments import Floats
from assessor.order import hash_rows

SEED = 20260101
MAX_FEATURES = 2048
MAX_VALUES = 1 << 18
"""Float64 values in a full sample, so 2 MB at most; the null pools them over features (FORMULAS 2.3)."""


def default_rows(n_features: int) -> int:
    """Return how many rows a sample keeps: as many as fit MAX_VALUES, between 128 and 4096."""
    return min(4096, max(128, MAX_VALUES // min(n_features, MAX_FEATURES)))


def sampled_features(n_features: int) -> NDArray[np.int64]:
    """Return the features that are kept of each row: all, or MAX_FEATURES of them chosen by hash, sorted."""
    features = np.arange(n_features, dtype=np.int64)
    if n_features <= MAX_FEATURES:
        return features
    return np.sort(np.argsort(hash_rows(SEED, features), kind="stable")[:MAX_FEATURES])


@dataclass(frozen=True, eq=False)
class Calibration:
    """The sampled rows.

    Attributes:
        size: how many rows are kept at most; 0 turns the sample off.
        rows: shape (k,), int64: global row numbers, sorted by their hash.
        values: shape (k, sampled features), float64.
    """

    size: int
    rows: NDArray[np.int64]
    values: Floats

    @classmethod
    def empty(cls, size: int, n_features: int) -> "Calibration":
        """Return the sample of no rows."""
        width = min(n_features, MAX_FEATURES) if size else 0
        return cls(size, np.zeros(0, np.int64), np.zeros((0, width)))

    def with_rows(self, rows: NDArray[np.int64], values: Floats) -> "Calibration":
        """Return the sample of these and the given rows together."""
        if not self.size or not len(rows):
            return self
        all_rows = np.concatenate([self.rows, rows])
        keep = np.argsort(hash_rows(SEED, all_rows), kind="stable")[: self.size]
        old, new = keep < len(self.rows), keep >= len(self.rows)
        kept = np.empty((len(keep), values.shape[1]))
        kept[old] = self.values[keep[old]]
        kept[new] = values[keep[new] - len(self.rows)]
        return Calibration(self.size, all_rows[keep], kept)


class CalibrationBuilder:
    """Collects the sample of one shard, row by row number, in any order."""

    def __init__(self, size: int, n_features: int) -> None:
        self._size = size
        self._n_features = n_features
        self._features = sampled_features(n_features)
        self._rows = np.zeros(0, np.int64)
        self._values: list[NDArray[Any]] = []

    def add(self, first: int, values: NDArray[Any]) -> None:
        """Offer the rows first, first + 1, ...: shape (rows, features, positions); a few of them are copied."""
        if not self._size:
            return
        rows = np.arange(first, first + len(values), dtype=np.int64)
        hashes = hash_rows(SEED, rows)
        taken = np.flatnonzero(self._wanted(hashes))
        if not len(taken):
            return
        taken = taken[np.argsort(hashes[taken])]
        rows = rows[taken]
        # One position a row, chosen by hash, where a feature has several.
        positions = (hash_rows(SEED + 1, rows) % np.uint64(values.shape[2])).astype(np.int64)
        picked = values[taken, :, positions]
        if len(self._features) < self._n_features:
            picked = picked.take(self._features, axis=1)
        self._rows = np.concatenate([self._rows, rows])
        self._values.append(picked)
        if len(self._rows) > 2 * self._size:
            self._drop_the_rest()

    def finish(self) -> Calibration:
        """Return the sample of all rows offered."""
        if not self._values:
            return Calibration.empty(self._size, self._n_features)
        self._drop_the_rest()
        return Calibration(self._size, self._rows, np.asarray(self._values[0], np.float64))

    def _drop_the_rest(self) -> None:
        """Keep the sample of the rows so far, sorted by hash, in the dtype of the data."""
        keep = np.argsort(hash_rows(SEED, self._rows), kind="stable")[: self._size]
        if len(self._values) == 1 and np.array_equal(keep, np.arange(len(self._rows))):
            return
        values = np.empty((len(keep), len(self._features)), np.result_type(*self._values))
        place = np.full(len(self._rows), -1)
        place[keep] = np.arange(len(keep))
        start = 0
        for piece in self._values:
            to = place[start : start + len(piece)]
            values[to[to >= 0]] = piece[to >= 0]
            start += len(piece)
        self._rows, self._values = self._rows[keep], [values]

    def _wanted(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which of the rows with these hashes a full sample might still take."""
        if len(self._rows) >= self._size:
            bound = np.partition(hash_rows(SEED, self._rows), self._size - 1)[self._size - 1]
        elif len(hashes) > self._size:
            bound = np.partition(hashes, self._size - 1)[self._size - 1]
        else:
            return np.ones(len(hashes), np.bool_)
        return np.asarray(hashes <= bound)
