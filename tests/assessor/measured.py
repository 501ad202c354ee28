"""Data that the tests of the measures share: unlike scales and means, features that do not vary, an odd last batch."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mixed(rows: int = 75, features: int = 9, size: int = 8) -> Floats:
    """Feature 4 never varies, feature 5 not in the first two batches."""
    rng = np.random.default_rng(17)
    x = rng.normal(rng.normal(0, 1, features), rng.lognormal(0, 1, features), size=(rows, features))
    x[:, 4] = 0.1
    x[: 2 * size, 5] = 7.0
    return x


def batches(x: Floats, size: int) -> list[Floats]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def varying(batch: Floats) -> Floats:
    """The features that take more than one value in the batch."""
    return batch[:, (batch != batch[0]).any(axis=0)]
