"""Where a family's samples come from: scikit-learn's tables and images, or what generated.py and files.py make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets


@dataclass(frozen=True, eq=False)
class Pool:
    """All samples of a family.

    Attributes:
        samples: (N, *), any real dtype.
        classes: from 0, (N,) int64.
        held_out: how many samples, the last ones, their makers set apart for tests; 0: none.
    """

    samples: NDArray[Any]
    classes: NDArray[np.int64]
    held_out: int = 0


def digits() -> Pool:
    """Return scikit-learn's handwritten digits as images (1, 8, 8), 0 to 16."""
    bunch = datasets.load_digits()
    return Pool(bunch.images[:, None], bunch.target.astype(np.int64))


def digit_rows() -> Pool:
    """Return the same digits as sequences of 8 rows, (8, 8)."""
    pool = digits()
    return Pool(pool.samples[:, 0], pool.classes)


def table(read: Callable[..., Any]) -> Callable[[], Pool]:
    """Return what makes a pool of one of scikit-learn's tables, such as `load_wine`."""

    def pool() -> Pool:
        samples, classes = read(return_X_y=True)
        return Pool(samples, classes.astype(np.int64))

    return pool


def patches() -> Pool:
    """Return 8 x 8 patches of scikit-learn's two sample images at half size, (3, 8, 8), 0 to 255.

    A class is an image and its upper, middle or lower third: 6 classes. Patches do not overlap.
    """
    samples, classes = [], []
    for number, image in enumerate(datasets.load_sample_images().images):
        half = image[:426].reshape(213, 2, 320, 2, 3).mean(axis=(1, 3))[:208]
        samples.append(half.reshape(26, 8, 40, 8, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 8, 8))
        classes.append(np.repeat(3 * number + np.arange(26) * 3 // 26, 40))
    return Pool(np.concatenate(samples), np.concatenate(classes))
