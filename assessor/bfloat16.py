"""bfloat16, which NumPy lacks: the upper half of a float32, so that widening loses nothing.

Arrays of the package ml_dtypes and torch tensors are seen as their bits, without a copy, and widened block by block.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "bfloat16"


def as_bits(x: Any) -> NDArray[np.uint16] | None:
    """Return a view of the bits of an array or torch tensor of bfloat16 on the CPU; None for any other.

    >>> as_bits(np.ones(3)) is None
    True
    """
    if isinstance(x, np.ndarray):
        return x.view(np.uint16) if x.dtype.itemsize == 2 and x.dtype.name == NAME else None
    if hasattr(x, "detach") and str(getattr(x, "dtype", "")) == f"torch.{NAME}":
        torch: Any = sys.modules["torch"]
        bits: NDArray[np.int16] = x.detach().cpu().view(torch.int16).numpy()
        return bits.view(np.uint16)
    return None


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 values that these bits stand for.

    >>> widen(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)
