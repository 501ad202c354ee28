"""Shard bodies as streams: an array's memory goes out in pieces and is never copied whole."""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from xxhash import xxh3_128

from assessor import DtypeError, LabelError, NonFiniteError, SettingError, ShapeError
from clients.compression import AS_IS, AUTO, Sending, compressed, content_digest, pays

NPY = "application/x-npy"
SAFETENSORS = "application/vnd.safetensors"
UNNAMED = "application/octet-stream"  # the service recognizes it by its first bytes

PIECE_BYTES = 2**20

_IDENTITIES: dict[str, Callable[[], Any]] = {"xxh3-128": xxh3_128, "blake3": blake3}
"""How the service names shards, by what stands before the colon."""

# The public safetensors specification's names: https://github.com/huggingface/safetensors
_SAFETENSORS_DTYPES = {
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


@dataclass(frozen=True)
class Body:
    """A request body: pieces, their media type, and whether they can be sent again.

    Attributes:
        media_type: Content-Type.
        size_bytes: bytes in all, before compression; None where it is not known.
        open: returns the pieces, from the beginning if `repeatable`.
        repeatable: may be sent again after a failure.
        sending: whether they are compressed, and a digest goes ahead of them.
        progress: called with (bytes sent, before compression; size) after each piece; from 0 when sent again.
    """

    media_type: str
    size_bytes: int | None
    open: Callable[[], Iterator[bytes]]
    repeatable: bool = True
    sending: Sending = AS_IS
    progress: Callable[[int, int | None], None] | None = None

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces as they are sent."""
        return self._encoded(self.open() if self.progress is None else self._watched(self.progress))

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of a request with this body. A digest is computed, where one is to be sent."""
        headers = {"Content-Type": self.media_type}
        if self.sending.compress is not None:
            headers["Content-Encoding"] = self.sending.compress
        elif self.size_bytes is not None:
            headers["Content-Length"] = str(self.size_bytes)
        if self.sending.content_digest and self.repeatable:
            headers["Content-Digest"] = content_digest(self._encoded(self.open()))
        return headers

    def has_digest(self, text: str) -> bool:
        """Return whether the service calls this shard so, by XXH3 or BLAKE3 of its bytes; it must be repeatable.

        A digest of another kind is no one's.
        """
        kind, _, digits = text.partition(":")
        if kind not in _IDENTITIES:
            return False
        digest = _IDENTITIES[kind]()
        for piece in self.open():
            digest.update(piece)
        return bool(digest.hexdigest() == digits)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces to an asynchronous transport."""
        for piece in self:
            yield piece

    def sent_as(self, sending: Sending) -> "Body":
        """Return this body, sent so; "auto" is settled by its first pieces, none for what can be read once."""
        if sending.compress == AUTO:
            chosen = "zstd" if self.repeatable and pays(self.open()) else None
            sending = replace(sending, compress=chosen)
        return replace(self, sending=sending)

    def _encoded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        return pieces if self.sending.compress is None else compressed(pieces, self.sending.compress)

    def _watched(self, progress: Callable[[int, int | None], None]) -> Iterator[bytes]:
        sent_bytes = 0
        for piece in self.open():
            yield piece
            sent_bytes += len(piece)
            progress(sent_bytes, self.size_bytes)


def shard_body(data: Any, labels: Any = None) -> Body:
    """Return the body of one shard.

    Args:
        data: an array or tensor (N, *) of uint8, int8..int64, float16, bfloat16, float32 or
            float64; the path of an .npy or .safetensors file; the bytes of one; or an iterable of
            such bytes, which is sent once and not retried unless it is a list or tuple.
        labels: (N,) integers, for arrays and .npy paths; a safetensors file holds its own as `y`.

    Returns:
        npy where there are no labels, else safetensors with x and y.

    Raises:
        DtypeError: a dtype that neither format holds as numbers.
        LabelError: labels of another length, that are no integers, or beside bytes.
        NonFiniteError: an array with masked values.
        ShapeError: an array without rows axis.
        SettingError: data of none of these kinds, or another file ending.
    """
    if isinstance(data, str | os.PathLike):
        return _file_body(Path(data), labels)
    if hasattr(data, "__array__") or hasattr(data, "detach"):
        return _array_body(data, labels)
    if labels is not None:
        raise LabelError(
            "expected labels beside an array or an .npy path only; bytes hold their own: encode "
            "safetensors with x and y"
        )
    if isinstance(data, bytes | bytearray | memoryview):
        view = memoryview(data).cast("B")
        return Body(UNNAMED, view.nbytes, lambda: _cut(view))
    if isinstance(data, Iterable) and not isinstance(data, Mapping | Set):
        repeatable = isinstance(data, list | tuple)
        return Body(UNNAMED, None, lambda: iter(data), repeatable=repeatable)
    raise SettingError(
        "expected an array, the path of an .npy or .safetensors file, bytes, or an iterable of "
        f"bytes; got {type(data).__name__}"
    )


def _file_body(path: Path, labels: Any) -> Body:
    types = {".npy": NPY, ".safetensors": SAFETENSORS}
    if path.suffix not in types:
        raise SettingError(f"expected a file ending in .npy or .safetensors; got {path.name!r}")
    if labels is not None:
        if path.suffix != ".npy":
            raise LabelError(f"expected labels as tensor y in {path.name!r}; got them beside it")
        return _array_body(np.load(path, mmap_mode="r", allow_pickle=False), labels)

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    return Body(types[path.suffix], path.stat().st_size, pieces)


def _array_body(data: Any, labels: Any) -> Body:
    x, dtype = _as_numpy(data)
    if x.ndim == 0:
        raise ShapeError("expected rows along the first axis; got a single number")
    if labels is None and dtype != "BF16":
        return npy_body(x)
    tensors = {"x": (x, dtype)}
    if labels is not None:
        # the labels go first: they are few, and x stays aligned to 8 bytes after them
        tensors = {"y": (_as_labels(labels, len(x)), "I64"), **tensors}
    return safetensors_body(tensors)


def _as_numpy(data: Any) -> tuple[NDArray[Any], str]:
    if hasattr(data, "detach"):  # a torch tensor, without importing torch
        data = data.detach().cpu()
        if str(data.dtype) == "torch.bfloat16":
            return data.view(_sibling(data, "int16")).numpy(), "BF16"
        data = data.numpy()
    if np.ma.is_masked(data):
        raise NonFiniteError("expected values everywhere; the array has masked ones: remove or impute them first")
    x = np.asarray(data)
    name = x.dtype.newbyteorder("=").name
    if name not in _SAFETENSORS_DTYPES:
        raise DtypeError(f"expected {', '.join(_SAFETENSORS_DTYPES)} or bfloat16; got {x.dtype}: convert first")
    return x, _SAFETENSORS_DTYPES[name]


def _sibling(tensor: Any, name: str) -> Any:
    import torch

    return getattr(torch, name)


def _as_labels(labels: Any, n_rows: int) -> NDArray[np.int64]:
    y = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if y.shape != (n_rows,) or y.dtype.kind not in "iub":
        raise LabelError(f"expected {n_rows} integer labels, one a row; got shape {y.shape}, dtype {y.dtype}")
    return y.astype(np.int64)


def npy_body(x: NDArray[Any]) -> Body:
    """Return x as an npy file, version 1.0, C order, little-endian."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {"descr": _little(x.dtype).str, "fortran_order": False, "shape": x.shape},
    )
    head = header.getvalue()

    def pieces() -> Iterator[bytes]:
        yield head
        yield from _row_pieces(x)

    return Body(NPY, len(head) + x.nbytes, pieces)


def safetensors_body(tensors: dict[str, tuple[NDArray[Any], str]]) -> Body:
    """Return tensors as a safetensors file, in the order given; the values are (array, dtype name).

    Format: 8 bytes little-endian length of the header; a JSON header padded with spaces, with each
    tensor's dtype, shape and offsets; then the tensors' bytes, C order, little-endian, no holes.
    """
    entries: dict[str, Any] = {}
    end = 0
    for name, (array, dtype) in tensors.items():
        start, end = end, end + array.nbytes
        shape = list(array.shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text

    def pieces() -> Iterator[bytes]:
        yield head
        for array, _ in tensors.values():
            yield from _row_pieces(array)

    return Body(SAFETENSORS, len(head) + end, pieces)


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def _row_pieces(x: NDArray[Any]) -> Iterator[bytes]:
    """Yield the array's bytes in C order; at most a piece is copied, whatever its strides."""
    if x.nbytes == 0:
        return
    rows = max(1, PIECE_BYTES // (x.nbytes // len(x)))
    for start in range(0, len(x), rows):
        block = np.ascontiguousarray(x[start : start + rows], dtype=_little(x.dtype))
        yield from _cut(block.reshape(-1).view(np.uint8).data)


def _cut(view: memoryview) -> Iterator[bytes]:
    for start in range(0, view.nbytes, PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])
