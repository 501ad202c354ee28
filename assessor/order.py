"""The order in which a dataset's samples are laid out into batches, and the fingerprint of that layout.

Orders come from a hash of (seed, number), not from a random generator, so they are the same on every machine, in
every version of NumPy, for every number of workers.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assessor.errors import PlanFormatError, SettingError

SAMPLER_VERSION = 1


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


@dataclass(frozen=True)
class SampleOrder:
    """How dataset indices are laid out into batches: batch i holds `ids(n)[i * B : (i + 1) * B]`.

    >>> SampleOrder.ROWS.ids(3).tolist()
    [0, 1, 2]
    >>> sorted(SampleOrder.shuffled(7).ids(5).tolist())
    [0, 1, 2, 3, 4]
    """

    kind: str = "rows"
    seed: int | None = None

    ROWS: ClassVar["SampleOrder"]

    @classmethod
    def shuffled(cls, seed: int) -> "SampleOrder":
        """Return the order that sorts rows by `hash_rows(seed, row)`."""
        return cls("shuffled", int(seed))

    def __post_init__(self) -> None:
        seeded = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if (self.kind, seeded) not in (("rows", False), ("shuffled", True)) or (self.seed is None) == seeded:
            raise SettingError(
                f"expected SampleOrder.ROWS or SampleOrder.shuffled(seed); got kind={self.kind!r}, seed={self.seed!r}"
            )

    def ids(self, n_rows: int) -> NDArray[np.int64]:
        """Return the dataset indices in the order of assessment: shape (n_rows,), int64, a permutation."""
        rows = np.arange(n_rows, dtype=np.int64)
        if self.seed is None:
            return rows
        return np.argsort(hash_rows(self.seed, rows), kind="stable").astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the sampler's version."""
        if self.seed is None:
            return {"kind": "rows"}
        return {"kind": "shuffled", "seed": self.seed, "version": SAMPLER_VERSION}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SampleOrder":
        """Return the order described by `to_dict`.

        Raises:
            PlanFormatError: unknown kind, seed or version.
        """
        kind, seed = data.get("kind"), data.get("seed")
        if kind == "rows" and set(data) <= {"kind"}:
            return cls.ROWS
        known = set(data) <= {"kind", "seed", "version"} and data.get("version") == SAMPLER_VERSION
        if kind == "shuffled" and known and isinstance(seed, int) and not isinstance(seed, bool):
            return cls.shuffled(seed)
        raise PlanFormatError(
            'expected a sample order {"kind": "rows"} or {"kind": "shuffled", "seed": integer, '
            f'"version": {SAMPLER_VERSION}}}; got {dict(data)!r}'
        )


SampleOrder.ROWS = SampleOrder()


def fingerprint(order: SampleOrder, n_rows: int, batch_size: int, drop_last: bool) -> str:
    """Return the SHA-256 name of a layout of samples into batches.

    The order's description stands for its ids, which it determines: layouts of one fingerprint put the same samples
    into the same batches. The settings count, not what they come to: with and without drop_last are two layouts even
    where nothing is left to drop.
    """
    settings = f"n={int(n_rows)} batch={int(batch_size)} drop={bool(drop_last)}"
    text = f"normgauge/{SAMPLER_VERSION} {order.to_dict()} {settings}"
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
