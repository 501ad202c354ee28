"""Samples that come one by one, put together to blocks."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.formats.decoder import Part

BLOCK_BYTES = 4 << 20
"""Samples are gathered up to so many bytes."""


def gather(samples: Iterable[tuple[NDArray[Any], int | None]]) -> Iterator[Part]:
    """Yield samples, each with its label or None, as blocks of one shape and dtype.

    A sample of another shape is a block of its own, which the profiler refuses by its row.

    >>> list(part.block.shape for part in gather((np.zeros(3), None) for _ in range(5)))
    [(5, 3)]
    """
    rows: list[NDArray[Any]] = []
    labels: list[int] = []
    size_bytes = 0
    for x, label in samples:
        if rows and (size_bytes > BLOCK_BYTES or rows[0].shape != x.shape or rows[0].dtype != x.dtype):
            yield from _parts(rows, labels)
            rows, labels, size_bytes = [], [], 0
        rows.append(x)
        size_bytes += x.nbytes
        if label is not None:
            labels.append(label)
    yield from _parts(rows, labels)


def _parts(rows: list[NDArray[Any]], labels: list[int]) -> Iterator[Part]:
    if rows:
        block = np.stack(rows)
        yield Part("x", block, block.dtype.name)
    if labels:
        yield Part("y", np.array(labels, np.int64), "int64")
