"""Shard files written by the formats' own libraries, or by hand where they must be wrong."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from assessor import Profile, profile_shard


def npy(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
    return stream.getvalue()


def npy_with(header: str | bytes, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An npy file of a hand-written header."""
    text = header.encode("latin1") if isinstance(header, str) else header
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(width, "little") + text + data


def npy_header(descr: Any = "<f4", fortran: Any = False, shape: Any = (2, 3)) -> str:
    return repr({"descr": descr, "fortran_order": fortran, "shape": shape}) + "\n"


def tensors(**arrays: NDArray[Any]) -> bytes:
    return bytes(safetensors.numpy.save(arrays))


def tensors_with(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file of a hand-written header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Dripping(io.BytesIO):
    """A stream that gives its bytes in pieces of the given sizes, then of the last of them."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__()
        self._data, self._sizes, self._at = data, sizes, 0
        self.read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        step = self._sizes[min(self._at, len(self._sizes) - 1)]
        self._at += 1
        step = min(step, size) if size is not None and size >= 0 else step
        piece = self._data[self.read_bytes : self.read_bytes + step]
        self.read_bytes += len(piece)
        return piece


def profile_bytes(data: bytes, **settings: Any) -> Profile:
    return profile_shard(io.BytesIO(data), **{"batch_sizes": [3], **settings})
