"""The order in which a dataset's samples are laid out into batches, and the fingerprint of that layout.

Orders come from a hash of (seed, number), not from a random generator, so they are the same on every machine, in
every version of NumPy, for every number of workers.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assessor.errors import PlanFormatError, SettingError

SAMPLER_VERSION = 1
HASHED_AT_ONCE = 1 << 20
BUCKET_ROWS = 1 << 16
"""Sorted at a time: their hashes stay in a processor's cache."""


def hash_rows(seed: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each (seed, row).

    Args:
        seed: any integer; taken modulo 2^64.
        rows: shape (n,), int64.

    Returns:
        Shape (n,), uint64, uniform over its range; distinct rows get distinct hashes under one seed.

    Source: the finalizer of SplitMix64 (Steele, Lea & Flood 2014), a bijection on 64-bit integers.
    """
    start = _mix(np.array([(seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64], np.uint64))
    return _mix(rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sort_by_hash(seed: int, n_rows: int) -> NDArray[np.uint32] | NDArray[np.int64]:
    """Return the rows 0 to n_rows - 1 sorted by `hash_rows(seed, row)`, with little memory beside the result.

    Rows are dealt into buckets by the first bits of their hashes, and each bucket is sorted: the hashes of all rows,
    which are twice the size of the result or more, are never there together. Hashes are distinct, so any sort gives
    the same.

    Returns:
        Shape (n_rows,), uint32; int64 where there are more rows than it numbers.
    """
    kind: type[np.uint32 | np.int64] = np.uint32 if n_rows <= 1 << 32 else np.int64
    bits = min(16, (n_rows // BUCKET_ROWS).bit_length())  # keys of 16 bits are sorted by radix
    if not bits:
        whole: NDArray[Any] = np.argsort(hash_rows(seed, np.arange(n_rows, dtype=np.int64))).astype(kind)
        return whole
    counts = np.zeros(1 << bits, np.int64)
    for _, keys in _keyed(seed, n_rows, bits):
        counts += np.bincount(keys, minlength=len(counts))
    stops = np.cumsum(counts)
    rows: NDArray[Any] = np.empty(n_rows, kind)
    free = stops - counts
    for start, keys in _keyed(seed, n_rows, bits):
        by_key = np.argsort(keys, kind="stable")
        found = np.bincount(keys, minlength=len(counts))
        rows[np.repeat(free - (np.cumsum(found) - found), found) + np.arange(len(keys))] = by_key + start
        free += found
    for start, stop in zip((stops - counts).tolist(), stops.tolist(), strict=True):
        bucket = rows[start:stop]
        bucket[:] = bucket[np.argsort(hash_rows(seed, bucket.astype(np.int64)))]
    return rows


def _keyed(seed: int, n_rows: int, bits: int) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield the first bits of the rows' hashes, some at a time, each with the number of the first of them."""
    for start in range(0, n_rows, HASHED_AT_ONCE):
        hashes = hash_rows(seed, np.arange(start, min(n_rows, start + HASHED_AT_ONCE), dtype=np.int64))
        yield start, (hashes >> np.uint64(64 - bits)).astype(np.uint16)


@dataclass(frozen=True)
class SampleOrder:
    """How dataset indices are laid out into batches: batch i holds `ids(n)[i * B : (i + 1) * B]`.

    Orders are equal when they name the same ids. An explicit order that was read from a file knows only the ids' name.

    >>> SampleOrder.ROWS.ids(3).tolist()
    [0, 1, 2]
    >>> sorted(SampleOrder.shuffled(7).ids(5).tolist())
    [0, 1, 2, 3, 4]
    >>> SampleOrder.explicit([4, 4, 1]).ids(3).tolist()
    [4, 4, 1]
    """

    kind: str = "rows"
    seed: int | None = None
    sha256: str | None = None
    _ids: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    ROWS: ClassVar["SampleOrder"]

    @classmethod
    def shuffled(cls, seed: int) -> "SampleOrder":
        """Return the order that sorts rows by `hash_rows(seed, row)`."""
        return cls("shuffled", int(seed))

    @classmethod
    def explicit(cls, ids: ArrayLike) -> "SampleOrder":
        """Return the order of these dataset indices, named by the SHA-256 of their int64 little-endian bytes.

        Indices may be left out and may repeat. Those of the dataset's own order, 0 to n - 1, give `ROWS`.

        Raises:
            SettingError: not one axis of integers >= 0.
        """
        array = np.asarray(ids)
        if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) == 0 or array.min() < 0:
            raise SettingError(
                f"expected sample ids as one axis of integers >= 0; got shape {array.shape}, dtype {array.dtype}"
            )
        kept = array.astype(np.int64)
        if np.array_equal(kept, np.arange(len(kept))):
            return cls.ROWS
        kept.flags.writeable = False
        return cls("explicit", None, hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest(), kept)

    def __post_init__(self) -> None:
        seeded = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        named = isinstance(self.sha256, str) and re.fullmatch("[0-9a-f]{64}", self.sha256) is not None
        known = (("rows", False, False), ("shuffled", True, False), ("explicit", False, True))
        whole = (self.seed is None) != seeded and (self.sha256 is None) != named
        if (self.kind, seeded, named) not in known or not whole:
            raise SettingError(
                "expected SampleOrder.ROWS, SampleOrder.shuffled(seed) or SampleOrder.explicit(ids); "
                f"got kind={self.kind!r}, seed={self.seed!r}, sha256={self.sha256!r}"
            )

    def ids(self, n_rows: int) -> NDArray[np.int64]:
        """Return the dataset indices in the order of assessment: shape (n_rows,), int64.

        A permutation of 0 to n_rows - 1, but for an explicit order, which holds what it was given.

        Raises:
            SettingError: an explicit order of another number of ids, or one of which only the name is known.
        """
        if self.kind == "explicit":
            return self._explicit_ids(n_rows)
        if self.seed is None:
            return np.arange(n_rows, dtype=np.int64)
        return sort_by_hash(self.seed, n_rows).astype(np.int64, copy=False)

    def _explicit_ids(self, n_rows: int) -> NDArray[np.int64]:
        if self._ids is None:
            raise SettingError(
                "expected the sample ids of an explicit order; a saved plan holds only their SHA-256: "
                "give the sampler that made the plan, or SampleOrder.explicit(ids)"
            )
        if len(self._ids) != n_rows:
            raise SettingError(f"expected the {len(self._ids)} samples of an explicit order; got {n_rows} samples")
        return self._ids

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the sampler's version."""
        if self.kind == "rows":
            return {"kind": "rows"}
        named = {"seed": self.seed} if self.kind == "shuffled" else {"sha256": self.sha256}
        return {"kind": self.kind, **named, "version": SAMPLER_VERSION}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SampleOrder":
        """Return the order described by `to_dict`.

        Raises:
            PlanFormatError: unknown kind, seed, name or version.
        """
        kind, version = data.get("kind"), data.get("version")
        version = None if version is True else version  # to Python it is 1
        try:
            if kind == "rows" and set(data) <= {"kind"}:
                return cls.ROWS
            if kind == "shuffled" and version == SAMPLER_VERSION and set(data) <= {"kind", "seed", "version"}:
                return cls("shuffled", data.get("seed"))
            if kind == "explicit" and version == SAMPLER_VERSION and set(data) <= {"kind", "sha256", "version"}:
                return cls("explicit", None, data.get("sha256"))
        except SettingError:
            pass
        raise PlanFormatError(
            'expected a sample order {"kind": "rows"}, {"kind": "shuffled", "seed": integer, '
            f'"version": {SAMPLER_VERSION}}} or {{"kind": "explicit", "sha256": 64 hexadecimal digits, '
            f'"version": {SAMPLER_VERSION}}}; got {dict(data)!r}'
        )


SampleOrder.ROWS = SampleOrder()


def fingerprint(
    order: SampleOrder, n_rows: int, batch_size: int, drop_last: bool, *, source_order: str | None = None
) -> str:
    """Return the SHA-256 name of a layout of samples into batches.

    The order's description stands for its ids, which it determines: layouts of one fingerprint put the same samples
    into the same batches. The settings count, not what they come to: with and without drop_last are two layouts even
    where nothing is left to drop. Where the samples lie in several sources, the name of the order in which these make
    the dataset counts too: the same row is another sample in another order.
    """
    settings = f"n={int(n_rows)} batch={int(batch_size)} drop={bool(drop_last)}"
    text = f"normgauge/{SAMPLER_VERSION} {order.to_dict()} {settings}"
    if source_order is not None:
        text += f" sources={source_order}"
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
