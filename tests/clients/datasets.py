"""Small datasets with known contents."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

Floats = NDArray[np.float32]


def two_sources(n_rows: int = 90, n_features: int = 5, *, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Return rows of which the second half has features of very different scales, and labels."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n_rows, n_features)).astype(np.float32)
    x[n_rows // 2 :] *= np.logspace(-1, 2, n_features, dtype=np.float32)
    return x, generator.integers(0, 3, n_rows)


class Pairs(Dataset[tuple[torch.Tensor, int]]):
    """(row, label) samples, picklable."""

    def __init__(self, x: Floats, y: NDArray[np.int64]) -> None:
        self.x = torch.from_numpy(x)
        self.y = y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index], int(self.y[index])


class Items(Dataset[Any]):
    """Any list of samples as a dataset."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]
