"""The safetensors format: tensor `x` (rows, *) and optionally `y` (rows,) of integer labels.

Source: huggingface/safetensors, README "Format": 8 bytes little-endian header length, a JSON header of dtype, shape and
data_offsets, then the tensors' bytes without holes. The library reads whole buffers or files only, so the header is
parsed here; the tests hold it against the library.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from assessor.errors import DtypeError, FormatError, LabelError
from assessor.formats.decoder import MAX_HEADER_BYTES, Part, TensorReader, formats
from assessor.formats.settings import DEFAULT, DecodeSettings

DTYPES = {
    "BOOL": ("?", "bool"),
    "U8": ("u1", "uint8"),
    "I8": ("i1", "int8"),
    "U16": ("<u2", "uint16"),
    "I16": ("<i2", "int16"),
    "U32": ("<u4", "uint32"),
    "I32": ("<i4", "int32"),
    "U64": ("<u8", "uint64"),
    "I64": ("<i8", "int64"),
    "F16": ("<f2", "float16"),
    "BF16": ("<u2", "bfloat16"),
    "F32": ("<f4", "float32"),
    "F64": ("<f8", "float64"),
}


@formats.register("safetensors")
class SafetensorsDecoder:
    """Reads a safetensors file as it arrives."""

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self._settings = settings
        self._head = bytearray()
        self._readers: list[TensorReader] | None = None
        self._current = 0
        self._left = 0
        self._came = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows that these bytes complete, of the tensors in the order of their bytes."""
        view = memoryview(data).cast("B")
        if self._readers is None:
            while (length := header_length(bytes(self._head[:9]))) is None or len(self._head) < length:
                if not len(view):
                    return
                taken = view[: (length or 9) - len(self._head)]
                self._head += taken
                view = view[len(taken) :]
            self._readers = make_readers(bytes(self._head[8:length]), self._settings)
            self._left = self._readers[0].n_bytes
            self._head.clear()
        self._came += len(view)
        while len(view):
            while not self._left and self._current + 1 < len(self._readers):
                self._current += 1
                self._left = self._readers[self._current].n_bytes
            if not self._left:
                raise FormatError(
                    f"expected {self._expected()} bytes of tensors; at least {self._came} came: "
                    "send one safetensors file a shard"
                )
            piece = view[: self._left]
            self._left -= len(piece)
            view = view[len(piece) :]
            yield from self._readers[self._current].feed(piece)

    @property
    def samples(self) -> TensorReader | None:
        """The reader of the samples, while what comes is theirs."""
        reader = self._readers[self._current] if self._readers else None
        return reader if reader is not None and reader.name == "x" else None

    def finish(self) -> tuple[Part, ...]:
        """Check that all tensors are complete."""
        if self._readers is None:
            raise FormatError(
                f"expected a safetensors file; only {len(self._head)} bytes of its header came: "
                "the body was cut off, send it again"
            )
        if self._came < self._expected():
            raise FormatError(
                f"expected {self._expected()} bytes of tensors; got {self._came}: the body was cut off, send it again"
            )
        return ()

    def _expected(self) -> int:
        return sum(reader.n_bytes for reader in self._readers or [])


def header_length(head: bytes) -> int | None:
    """Return the bytes up to the data, or None while that is not known."""
    if len(head) < 9:
        return None
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER_BYTES or head[8:9] != b"{":
        raise FormatError(
            f"expected a safetensors header of at most {MAX_HEADER_BYTES} bytes that begins with '{{'; "
            f"got length {length}, first byte {head[8:9]!r}: save with safetensors.numpy.save"
        )
    return 8 + length


def make_readers(text: bytes, settings: DecodeSettings) -> list[TensorReader]:
    """Return the tensors' readers, in the order of their bytes."""
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"expected a safetensors header in JSON: {error}") from error
    if not isinstance(header, dict):
        raise FormatError("expected a safetensors header that is a JSON object")
    header.pop("__metadata__", None)
    if "x" not in header or not set(header) <= {"x", "y"}:
        raise FormatError(
            'expected a tensor "x" (rows, *) and optionally "y" (rows,); '
            f"got tensors {sorted(header)[:10]}: rename them"
        )
    placed = sorted((_reader(name, entry, settings) for name, entry in header.items()), key=lambda p: p[:2])
    at = 0
    for begin, end, reader in placed:
        if begin != at or end - begin != reader.n_bytes:
            raise FormatError(
                f"expected tensor {reader.name!r} of shape {reader.shape}, dtype {reader.label} at bytes "
                f"{at} to {at + reader.n_bytes}; its data_offsets are {begin} to {end}"
            )
        at = end
    by_name = {reader.name: reader for _, _, reader in placed}
    if "y" in by_name and by_name["y"].shape[0] != by_name["x"].shape[0]:
        raise LabelError(
            f"expected one label a row, {by_name['x'].shape[0]} in all; got y of shape {by_name['y'].shape}"
        )
    return [reader for _, _, reader in placed]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise ValueError(f"{twice[0]!r:.80} comes twice")
    return dict(pairs)


def _reader(name: str, entry: Any, settings: DecodeSettings) -> tuple[int, int, TensorReader]:
    try:
        dtype_name, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(shape, list):
            raise TypeError("shape is not a list")
        numbers = [*shape, begin, end]
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(f"expected dtype, shape and data_offsets for tensor {name!r}; got {entry!r:.200}") from error
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**63 for n in numbers):
        raise FormatError(f"expected integers >= 0 for tensor {name!r}; got {entry!r:.200}")
    if not isinstance(dtype_name, str) or dtype_name not in DTYPES:
        raise DtypeError(f"expected a dtype among {', '.join(DTYPES)}; tensor {name!r} has {dtype_name!r}")
    stored, label = DTYPES[dtype_name]
    return begin, end, TensorReader(name, tuple(shape), np.dtype(stored), label, settings)
