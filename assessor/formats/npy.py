"""The npy format: one array of samples, rows first.

Source: numpy.lib.format, versions 1.0 to 3.0. Arrays in Fortran order are refused: their rows do not come one after
another, so they cannot be read as a stream.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from assessor.bfloat16 import NAME
from assessor.errors import DtypeError, FormatError
from assessor.formats.decoder import Part, TensorReader, check_numeric, formats
from assessor.formats.settings import DEFAULT, DecodeSettings

MAX_LITERAL_BYTES = 10_000
"""NumPy's own bound: the header is a Python literal, which takes some 500 times its size to parse."""


@formats.register("npy")
class NpyDecoder:
    """Reads an npy file as it arrives.

    Args:
        settings: the limits.
        name: what the array is, "x" or "y".
    """

    def __init__(self, settings: DecodeSettings = DEFAULT, *, name: str = "x") -> None:
        self._settings = settings
        self._name = name
        self._head = bytearray()
        self._reader: TensorReader | None = None
        self._came = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows that these bytes complete."""
        view = memoryview(data).cast("B")
        if self._reader is None:
            while (length := header_length(bytes(self._head[:12]))) is None or len(self._head) < length:
                if not len(view):
                    return
                taken = view[: (length or 12) - len(self._head)]
                self._head += taken
                view = view[len(taken) :]
            self._reader = make_reader(bytes(self._head[:length]), self._name, self._settings)
            self._head.clear()
        self._came += len(view)
        if self._came > self._reader.n_bytes:
            raise FormatError(
                f"expected {self._reader.n_bytes} bytes of data for shape {self._reader.shape}, dtype "
                f"{self._reader.dtype}; at least {self._came} came: send one array a shard"
            )
        yield from self._reader.feed(view)

    @property
    def samples(self) -> TensorReader | None:
        """The reader of the samples, while what comes is theirs."""
        return self._reader if self._name == "x" else None

    def finish(self) -> tuple[Part, ...]:
        """Check that the array is complete."""
        if self._reader is None:
            raise FormatError(
                f"expected an npy file; only {len(self._head)} bytes of its header came: "
                "the body was cut off, send it again"
            )
        if self._came < self._reader.n_bytes:
            raise FormatError(
                f"expected {self._reader.n_bytes} bytes of data for shape {self._reader.shape}, dtype "
                f"{self._reader.dtype}; got {self._came}: the body was cut off, send it again"
            )
        return ()


def header_length(head: bytes) -> int | None:
    """Return the bytes up to the data, or None while that is not known."""
    magic = b"\x93NUMPY"
    if head[:6] != magic[: len(head)]:
        raise FormatError(
            f"expected an npy file, which begins with {magic!r}; got {head[:6]!r}: save it with numpy.save"
        )
    if len(head) < 12:
        return None
    if head[6] not in (1, 2, 3):
        raise FormatError(f"expected npy version 1, 2 or 3; got {head[6]}.{head[7]}")
    prefix, width = (10, 2) if head[6] == 1 else (12, 4)
    length = int.from_bytes(head[8 : 8 + width], "little")
    if length > MAX_LITERAL_BYTES:
        raise FormatError(f"expected an npy header of at most {MAX_LITERAL_BYTES} bytes; got {length}")
    return prefix + length


def make_reader(head: bytes, name: str, settings: DecodeSettings) -> TensorReader:
    """Return the reader of the array that a complete header describes."""
    header = _literal(head[10 if head[6] == 1 else 12 :].decode("utf-8" if head[6] == 3 else "latin1", "replace"))
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise FormatError(f"expected an npy header of descr, fortran_order and shape; got {header!r:.200}")
    shape, fortran = header["shape"], header["fortran_order"]
    # NumPy writes arrays of ml_dtypes.bfloat16 so; it has no other use for two bytes without a kind.
    bfloat16 = header["descr"] in ("<V2", "|V2")
    dtype = np.dtype("<u2") if bfloat16 else _dtype(header["descr"])
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape) or type(fortran) is not bool:
        raise FormatError(
            f"expected a shape of integers >= 0 and fortran_order True or False; got {shape!r:.80}, {fortran!r:.80}"
        )
    if fortran and sum(n > 1 for n in shape) > 1:
        raise FormatError(
            "expected rows one after another (C order); got Fortran order: save numpy.ascontiguousarray(array)"
        )
    return TensorReader(name, shape, dtype, NAME if bfloat16 else dtype.name, settings)


def _literal(text: str) -> Any:
    """Return the Python literal of a header. NumPy's own reader can fail with errors that are not ValueError."""
    text = re.sub(r"(?<=\d)L(?=\s*[,)])", "", text)  # Python 2 wrote long integers so
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise FormatError(f"expected a readable npy header: {error!s:.200}") from error


def _dtype(descr: Any) -> np.dtype[Any]:
    numeric = isinstance(descr, str) and re.fullmatch(r"[<>|=]?[?bhilqpBHILQPefdgFDGiufcmMO]\d{0,2}", descr)
    try:
        # All others (structured, text, with subarrays or units) stand for a dtype that is refused.
        dtype = np.dtype(descr) if numeric else np.dtype("V1")
    except TypeError as error:
        raise FormatError(f"expected a readable npy header; got dtype {descr!r:.80}: {error}") from error
    if not numeric:
        raise DtypeError(
            "expected booleans, integers or floats of at most 64 bits in an npy shard; "
            f"got dtype {descr!r:.80}: convert the data first"
        )
    check_numeric(dtype, "an npy shard")
    return dtype
