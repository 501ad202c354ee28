"""The demonstration's data: scikit-learn's handwritten digits, and variants whose right answer is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

RUN_ROWS = 32
"""Mixed sources alternate in runs of this many rows, so each batch of 4 or of 32 comes from one source."""
SCALE_SPREAD = 2.0
"""Standard deviation of the logarithm of the features' scales in the spread variants (FORMULAS 6)."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Variant:
    """A dataset with a known right answer.

    Attributes:
        name: short.
        x: shape (N, 8, 8), float32.
        y: shape (N,), int64, the digits.
        expected: what an assessor should say, in words.
        needy_rows: shape (N,), bool: rows of a source that needs normalization; None for one source.
    """

    name: str
    x: Array
    y: NDArray[np.int64]
    expected: str
    needy_rows: NDArray[np.bool_] | None = None

    def needy_batches(self, batch_size: int) -> NDArray[np.bool_] | None:
        """Return which batches come from the source that needs normalization, by their first row."""
        return None if self.needy_rows is None else self.needy_rows[::batch_size]


def digits() -> tuple[Array, NDArray[np.int64]]:
    """Return the 1,797 images (N, 8, 8), 0 to 16, and their labels, in an order that hides the writers' blocks."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.images[order].astype(np.float32), data.target[order].astype(np.int64)


def standardize(x: Array, reference: Array | None = None) -> Array:
    """Return x with each feature at mean 0 and standard deviation 1 over the reference (default: x itself)."""
    reference = x if reference is None else reference
    std = reference.std(axis=0, dtype=np.float64)
    result: Array = ((x - reference.mean(axis=0, dtype=np.float64)) / np.where(std > 0, std, 1)).astype(np.float32)
    return result


def scales(seed: int) -> Array:
    """Return one scale a feature, shape (8, 8), log-normal with SCALE_SPREAD."""
    drawn: Array = np.exp(SCALE_SPREAD * np.random.default_rng(seed).normal(size=(8, 8))).astype(np.float32)
    return drawn


def alternate(n_rows: int) -> NDArray[np.bool_]:
    """Return which rows come from the second source: every other run of RUN_ROWS."""
    return np.asarray((np.arange(n_rows) // RUN_ROWS) % 2 == 1)


def make_variants() -> list[Variant]:
    """Return the variants that the demonstration assesses."""
    x, y = digits()
    standard = standardize(x)
    second = alternate(len(x))
    mixed = np.where(second[:, None, None], standard * scales(1), standard)
    return [
        Variant("raw", x, y, "needs one global scaling; nothing differs from batch to batch"),
        Variant("standardized", standard, y, "needs nothing"),
        Variant("spread scales", x * scales(1), y, "needs its features standardized once"),
        Variant("two sources", mixed, y, "the second source's batches need it, the first's do not", second),
    ]
