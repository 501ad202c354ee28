"""What a shard format is: a decoder that is fed bytes as they arrive and gives back rows.

A decoder never sees a file or a socket, so files and uploads are read by the same code, and no shard is held whole.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from assessor.errors import DtypeError, EmptyShardError, FormatError, ShapeError
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

    def finish(self) -> None:
        """Check that the shard is complete. Raises FormatError when bytes are missing."""
        ...


MAX_AXES = 32
MAX_FEATURES = 1 << 24
"""Default bound on the values of one sample: a decoder holds at most one row that is not complete."""

formats: Registry[Callable[..., Decoder]] = Registry("format")
"""Each entry takes the keyword `max_features` (MAX_FEATURES unless given) and returns a Decoder."""

MEDIA_TYPES = {
    "application/x-npy": "npy",
    "application/vnd.safetensors": "safetensors",
}
"""Format by the media type of a shard body."""


def decoder_for(first_bytes: bytes) -> str:
    """Return the format's name, recognized by a shard's first 9 bytes.

    Raises:
        FormatError: not a known format.

    >>> decoder_for(b"\\x93NUMPY\\x01\\x00v")
    'npy'
    """
    if first_bytes.startswith(b"\x93NUMPY"):
        return "npy"
    if len(first_bytes) >= 9 and first_bytes[8:9] == b"{":
        return "safetensors"
    raise FormatError(
        f"expected a shard in a known format ({', '.join(formats.names())}); "
        f"its first bytes are {bytes(first_bytes[:9])!r}: save it with numpy.save or safetensors"
    )


@dataclass
class TensorReader:
    """Cuts one tensor's bytes, as they come, into blocks of whole rows.

    Args:
        name: "x" or "y".
        shape: shape of the tensor, (rows, *sample_shape).
        dtype: how the bytes are stored; bfloat16 is stored as uint16 and `label` says so.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    label: str
    max_features: int = MAX_FEATURES

    def __post_init__(self) -> None:
        self._rest = bytearray()
        if len(self.shape) > MAX_AXES or not all(0 <= n < 2**63 for n in self.shape):
            raise ShapeError(
                f"expected at most {MAX_AXES} axes of less than 2^63; got {len(self.shape)} axes, "
                f"shape {self.shape!r:.80}: save the samples again"
            )
        items = math.prod(self.shape[1:])
        if self.shape[1:] and not items:
            raise EmptyShardError(f"expected at least one feature; got {self.name} of shape {self.shape}")
        if items > self.max_features:
            raise ShapeError(
                f"expected samples of at most {self.max_features} values; got shape {self.shape[1:]}, "
                f"{items} values: is the first axis the samples? else raise the limit"
            )
        self._row_bytes = items * self.dtype.itemsize
        self.n_bytes = self._row_bytes * self.shape[0]

    def feed(self, data: memoryview) -> Iterator[Part]:
        """Yield the rows that `data` completes."""
        if not self._row_bytes:
            return
        if self._rest:
            need = self._row_bytes - len(self._rest)
            self._rest += data[:need]
            data = data[need:]
            if len(self._rest) == self._row_bytes:
                yield self._part(bytes(self._rest))
                self._rest.clear()
        whole = len(data) // self._row_bytes * self._row_bytes
        if whole:
            yield self._part(data[:whole])
        self._rest += data[whole:]

    def _part(self, data: bytes | memoryview) -> Part:
        block = np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])
        if self.label == "bfloat16":
            block = (block.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return Part(self.name, block, self.label)


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
