"""How samples are parted: in given shares, stratified by class, by seed."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

TRAIN, VALIDATION, TEST = 1024, 250, 400
"""At most so many rows of each; 1024 is a multiple of every batch size of the study."""

Indices = NDArray[np.int64]


def sizes(rows: int, held_out: int = 0) -> tuple[int, int, int]:
    """Return how many rows train, validate and test.

    A quarter tests and 15 % validate, up to the limits; `held_out` rows among them, where there are any, are the only
    ones that test.
    """
    own = rows - held_out
    test = min(TEST, held_out or own // 4)
    validation = min(VALIDATION, own * 3 // 20)
    return min(TRAIN, own - validation - (0 if held_out else test)), validation, test


def split(classes: Indices, rng: Generator, held_out: int = 0) -> tuple[Indices, Indices, Indices]:
    """Return the rows of training, validation and test, disjoint, stratified, each in a seeded order.

    Args:
        classes: of all rows, from 0, (N,).
        rng: draws the rows and their order.
        held_out: how many rows, the last ones, are kept for tests; 0: tests are drawn from all.
    """
    train, validation, test = sizes(len(classes), held_out)
    rows = np.arange(len(classes))
    if held_out:
        rest, (tested, _) = rows[:-held_out], draw(rows[-held_out:], classes, test, rng)
    else:
        tested, rest = draw(rows, classes, test, rng)
    validated, rest = draw(rest, classes, validation, rng)
    return draw(rest, classes, train, rng)[0], validated, tested


def draw(rows: Indices, classes: Indices, size: int, rng: Generator) -> tuple[Indices, Indices]:
    """Return `size` of the rows and the others, both in random order; each class within one row of its share.

    Args:
        rows: row numbers, (M,).
        classes: of all rows, (N,), N > every row number.
        size: 0 to M.
        rng: draws.
    """
    if size > len(rows):
        raise ValueError(f"expected to draw at most {len(rows)} rows, got {size}")
    rows = rng.permutation(rows)
    own = classes[rows]
    held = np.bincount(own)
    order = np.argsort(own, kind="stable")
    rank = np.empty_like(rows)
    rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(held) - held, held)
    taken = rank < apportion(size, held / max(1, len(rows)))[own]
    return rows[taken], rows[~taken]


def apportion(total: int, shares: Sequence[float] | ArrayLike) -> Indices:
    """Return whole numbers that add up to `total`, each within 1 of its share: the largest remainders round up.

    Example:
        >>> apportion(10, [0.5, 0.25, 0.25]).tolist()
        [5, 3, 2]
    """
    # Rounded, so that 0.9 * 110 = 99.00000000000001 and 98.99999999999999 count as the same.
    exact = np.round(total * np.asarray(shares, np.float64), 9)
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]] += 1
    return counts
