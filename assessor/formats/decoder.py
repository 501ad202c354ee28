"""What a shard format is: a decoder that is fed bytes as they arrive and gives back rows.

A decoder never sees a file or a socket, so files and uploads are read by the same code, and no shard is held whole.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from assessor.bfloat16 import NAME, widen
from assessor.errors import DtypeError, EmptyShardError, FeatureLimitError, LabelError, ShapeError
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.registry import Registry

MAX_HEADER_BYTES = 1 << 20
"""No header longer than this is read; it is checked before anything is allocated."""


class Part(NamedTuple):
    """Some rows of the samples ("x") or of the labels ("y"), in order; `dtype` is the name in the file."""

    name: str
    block: NDArray[Any]
    dtype: str


class Decoder(Protocol):
    """Turns a format's bytes into parts."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows that these bytes complete. Raises ShardError for what is not the format."""
        ...

    def finish(self) -> Iterable[Part]:
        """Return the rows that only the end completes; the decoder is done when they are taken.

        Raises FormatError, at the latest while they are taken, when bytes are missing.
        """
        ...


MAX_AXES = 32
INTEGERS = frozenset(("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"))
"""Names of the dtypes that labels may have."""

formats: Registry[Callable[..., Decoder]] = Registry("format")
"""Each entry takes one argument, the settings (DEFAULT unless given), and returns a Decoder."""


@dataclass
class TensorReader:
    """Cuts one tensor's bytes, as they come, into blocks of whole rows.

    Args:
        name: "x", "y", or "sample" for an array that is one sample.
        shape: shape of the tensor, (rows, *sample_shape); "x" of shape (rows,) is read as (rows, 1).
        dtype: how the bytes are stored; bfloat16 is stored as uint16 and `label` says so.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    label: str
    settings: DecodeSettings = DEFAULT

    def __post_init__(self) -> None:
        self._rest = bytearray()
        if self.name == "x" and len(self.shape) == 1:
            self.shape = (*self.shape, 1)
        if len(self.shape) > MAX_AXES or not all(0 <= n < 2**63 for n in self.shape):
            raise ShapeError(
                f"expected at most {MAX_AXES} axes of less than 2^63; got {len(self.shape)} axes, "
                f"shape {self.shape!r:.80}: save the samples again"
            )
        items = math.prod(self.shape[1:])
        if self.name == "y" and (len(self.shape) != 1 or self.label not in INTEGERS):
            raise LabelError(
                f"expected y of shape (rows,) and an integer dtype; got shape {self.shape}, dtype {self.label}"
            )
        if not self.shape:
            raise ShapeError(f"expected at least one axis in {self.name}; got a single number: give it an axis")
        if self.shape[1:] and not items:
            raise EmptyShardError(f"expected at least one feature; got {self.name} of shape {self.shape}")
        if items > self.settings.max_features:
            raise FeatureLimitError(
                f"expected samples of at most {self.settings.max_features} values; got shape {self.shape[1:]}, "
                f"{items} values: is the first axis the samples? else raise the limit"
            )
        self.row_bytes = items * self.dtype.itemsize
        self.n_bytes = self.row_bytes * self.shape[0]

    @property
    def unfinished_bytes(self) -> int:
        """What it holds of a row whose other bytes have not come."""
        return len(self._rest)

    def feed(self, data: memoryview) -> Iterator[Part]:
        """Yield the rows that `data` completes."""
        if not self.row_bytes:
            return
        if self._rest:
            need = self.row_bytes - len(self._rest)
            self._rest += data[:need]
            data = data[need:]
            if len(self._rest) == self.row_bytes:
                yield self._part(bytes(self._rest))
                self._rest.clear()
        whole = len(data) // self.row_bytes * self.row_bytes
        if whole:
            yield self._part(data[:whole])
        self._rest += data[whole:]

    def _part(self, data: bytes | memoryview) -> Part:
        block = np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])
        return Part(self.name, widen(block) if self.label == NAME else block, self.label)


def check_numeric(dtype: np.dtype[Any], what: str) -> None:
    """Raise DtypeError unless the dtype is a boolean, integer or float; object arrays get their own words."""
    if dtype.hasobject:
        raise DtypeError(
            f"expected numbers in {what}; got dtype object, which is stored as pickle and never loaded: "
            "convert with array.astype(numpy.float32) before saving"
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DtypeError(
            f"expected booleans, integers or floats of at most 64 bits in {what}; got dtype {dtype}: "
            "convert the data first"
        )
