"""A reader of pickles that runs none of their code: CIFAR's Python files hold plain values and arrays of bytes only."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_pickle(path: Path) -> Any:
    """Return what a pickle of plain values and uint8 arrays holds; strings of Python 2 as bytes.

    Arrays are rebuilt here from their bytes, so nothing that the file names is looked up or called.

    Raises:
        ValueError: the file is no pickle, is cut short, or names anything else.
    """
    content = path.read_bytes()
    try:
        body = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    # A damaged pickle raises whatever its opcodes run into: IndexError, KeyError, EOFError, TypeError and more.
    except Exception as error:
        raise ValueError(f"{path}: expected a pickle of plain values and arrays of bytes, got: {error}") from error
    return _finish(body)


class _Type:
    """Stands for numpy.dtype: takes unsigned bytes, nothing else."""

    def __init__(self, code: object, *_more: object) -> None:
        if code not in ("u1", b"u1"):
            raise ValueError(f"expected arrays of unsigned bytes (u1), got {code!r}")

    def __setstate__(self, state: object) -> None:
        """Accept byte order and the like, which one-byte values have not."""


class _Array:
    """Stands for numpy.ndarray, and for the function that makes an empty one, until its bytes have come."""

    values: NDArray[np.uint8] | None = None

    def __init__(self, *_made_with: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Take (version, shape, dtype, column-major, bytes)."""
        match state:
            case (int(), tuple(shape), _Type(), int(columns), bytes(raw)):
                self.values = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if columns else "C")
            case _:
                raise ValueError("expected the state of an array of unsigned bytes")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
}


# The unpickler in Python: that in C allocates a memo as large as a damaged file says, 64 GiB from five bytes.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which no CIFAR file does") from None


def _finish(body: Any) -> Any:
    """Return the body with its arrays in place of what stood for them, where a CIFAR file has them."""
    if isinstance(body, dict):
        return {key: _finish(value) for key, value in body.items()}
    return body.values if isinstance(body, _Array) else body
