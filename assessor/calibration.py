"""A bounded sample of rows that calibrates the null, the same for any cutting and order of the shards.

The rows with the smallest hash of (seed, global row number) are kept: a bottom-k sample, whose union is again one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.order import hash_rows

SEED = 20260101
MAX_FEATURES = 2048
MAX_VALUES = 1 << 18
"""Float64 values in a full sample, so 2 MB at most; the null pools them over features (FORMULAS 2.3)."""
AHEAD_ROWS = 2048
"""Rows whose hashes are made at a time, at the least."""
MAX_HASH = (1 << 64) - 1
MOST_EXPECTED = 1 << 20
"""Of rows that are announced, so many are hashed ahead: 15 ms. Of more, few come into the sample later on."""
HASHED_ROWS = 1 << 16
"""At a time."""


def default_rows(n_features: int) -> int:
    """Return how many rows a sample keeps: as many as fit MAX_VALUES, between 128 and 4096."""
    return min(4096, max(128, MAX_VALUES // min(n_features, MAX_FEATURES)))


@lru_cache(maxsize=64)
def sampled_features(n_features: int) -> NDArray[np.int64]:
    """Return the features that are kept of each row: all, or MAX_FEATURES of them chosen by hash, sorted; read-only."""
    features = np.arange(n_features, dtype=np.int64)
    if n_features > MAX_FEATURES:
        features = np.sort(np.argsort(hash_rows(SEED, features), kind="stable")[:MAX_FEATURES])
    features.flags.writeable = False
    return features


Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The sampled rows.

    Attributes:
        size: how many rows are kept at most; 0 turns the sample off.
        rows: shape (k,), int64: global row numbers, sorted by their hash.
        values: shape (k, sampled features), float32 where that holds them exactly by their dtype, else float64.
    """

    size: int
    rows: NDArray[np.int64]
    values: Values

    @classmethod
    def empty(cls, size: int, n_features: int) -> "Calibration":
        """Return the sample of no rows."""
        width = min(n_features, MAX_FEATURES) if size else 0
        return cls(size, np.zeros(0, np.int64), np.zeros((0, width)))

    @property
    def bar(self) -> int | None:
        """The largest hash of a sample that is full: no row above it can come in. None of a sample that is not."""
        full = self.size and len(self.rows) == self.size
        return int(hash_rows(SEED, self.rows[-1:])[0]) if full else None


def join_samples(samples: Sequence[Calibration]) -> Calibration:
    """Return the sample of all rows of samples of one size and width, at least one."""
    first, rows = samples[0], np.concatenate([sample.rows for sample in samples])
    if len(samples) == 1 or not len(rows):
        return first
    keep = np.argsort(hash_rows(SEED, rows), kind="stable")[: first.size]
    dtype = np.result_type(*(sample.values for sample in samples))
    values = np.empty((len(keep), first.values.shape[1]), dtype)
    start = 0
    for sample in samples:
        own = (keep >= start) & (keep < start + len(sample.rows))
        values[own] = sample.values[keep[own] - start]
        start += len(sample.rows)
    return Calibration(first.size, rows[keep], values)


def bar_of(size: int, first: int, n: int) -> int | None:
    """Return a `Calibration.bar` of the rows first, ..., first + n - 1, before they are there; None of too few."""
    smallest = np.zeros(0, np.uint64)
    end = first + min(n, MOST_EXPECTED)
    for start in range(first, end, HASHED_ROWS):
        stop = min(end, start + HASHED_ROWS)
        hashes = np.concatenate([smallest, hash_rows(SEED, np.arange(start, stop, dtype=np.int64))])
        smallest = np.partition(hashes, size - 1)[:size] if len(hashes) > size else hashes
    return int(smallest.max()) if len(smallest) == size else None


class CalibrationBuilder:
    """Collects the sample of one shard, row by row number, in any order; holds no more values than the sample has.

    Args:
        size: rows to keep at most; 0 for none.
        n_features: of the data.
        bar: `Calibration.bar` of rows whose sample will be joined with this one: those above it are not kept; None for
            all.
    """

    def __init__(self, size: int, n_features: int, bar: int | None = None) -> None:
        self._size = size
        self._bar = bar
        self._features = sampled_features(n_features)
        self._rows = np.zeros(0, np.int64)
        self._hashes = np.zeros(0, np.uint64)
        self._ahead_from = 0
        self._ahead = np.zeros(0, np.uint64)
        # Row k is at place k; the places above hold nothing yet.
        self._values: NDArray[Any] | None = None

    def expect(self, first: int, n: int) -> None:
        """Keep no row that cannot be in the sample of the rows first, ..., first + n - 1; all are to be offered."""
        if self._size and (bar := bar_of(self._size, first, n)) is not None:
            self._bar = bar if self._bar is None else min(self._bar, bar)

    def add(self, first: int, values: NDArray[Any]) -> None:
        """Offer the rows first, first + 1, ...: shape (rows, features, positions); a few of them are copied."""
        if not self._size or not len(values):
            return
        hashes = self._hashes_of(first, len(values))
        offered = (hashes <= np.uint64(MAX_HASH if self._bar is None else self._bar)).nonzero()[0]
        if not len(offered):
            return
        n_before = len(self._rows)
        keep = np.zeros(n_before + len(offered), np.bool_)
        keep[np.argsort(np.concatenate([self._hashes, hashes[offered]]), kind="stable")[: self._size]] = True
        dropped, taken = np.flatnonzero(~keep[:n_before]), offered[keep[n_before:]]
        places = np.concatenate([dropped, np.arange(n_before, n_before + len(taken) - len(dropped))])
        self._rows = np.concatenate([self._rows, np.zeros(len(places) - len(dropped), np.int64)])
        self._hashes = np.concatenate([self._hashes, np.zeros(len(places) - len(dropped), np.uint64)])
        self._rows[places], self._hashes[places] = first + taken, hashes[taken]
        if len(self._rows) == self._size:
            self._bar = int(self._hashes.max())
        self._place(places, first + taken, values, taken)

    def _hashes_of(self, first: int, n: int) -> NDArray[np.uint64]:
        """Return the hashes of the rows first, first + 1, ...; made ahead of a stream, whose blocks hold few rows."""
        start = first - self._ahead_from
        if start < 0 or start + n > len(self._ahead):
            self._ahead_from, start = first, 0
            self._ahead = hash_rows(SEED, np.arange(first, first + max(n, AHEAD_ROWS), dtype=np.int64))
        return self._ahead[start : start + n]

    def _place(
        self, places: NDArray[np.int64], rows: NDArray[np.int64], values: NDArray[Any], taken: NDArray[np.int64]
    ) -> None:
        """Copy the values of the rows that were taken to their places, in the dtype of the data."""
        if self._values is None:
            self._values = np.empty((self._size, len(self._features)), values.dtype)
        dtype = np.result_type(self._values, values)
        if dtype != self._values.dtype:
            self._values = self._values.astype(dtype)
        if values.shape[2] == 1:
            self._values[places] = values[taken, :, 0].take(self._features, axis=1)  # in a third of the time
            return
        # One position a row, chosen by hash, where a feature has several.
        positions = (hash_rows(SEED + 1, rows) % np.uint64(values.shape[2])).astype(np.int64)
        self._values[places] = values[taken[:, None], self._features, positions[:, None]]

    def finish(self) -> Calibration:
        """Return the sample of all rows offered, sorted by hash."""
        if self._values is None:
            return Calibration.empty(self._size, len(self._features))
        order = np.argsort(self._hashes, kind="stable")
        exact = np.can_cast(self._values.dtype, np.float32)
        dtype: np.dtype[np.floating[Any]] = np.dtype(np.float32 if exact else np.float64)
        return Calibration(self._size, self._rows[order], self._values[order].astype(dtype, copy=False))
