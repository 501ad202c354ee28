"""Which kernel reduces whole batches: the compiled one where it pays, else NumPy. Both give the same bits.

Settings, read from the environment at first use:
    NORMGAUGE_KERNEL: auto (default), compiled, numpy.
    NORMGAUGE_THREADS: threads of the compiled kernel; default the processors this process may use.
"""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import SettingError
from assessor.kernels.tiles import TILE, TileSums, empty_sums, sum_rows, sum_tiles
from assessor.moments import Floats, MomentsTree, reduce_items

log = logging.getLogger("normgauge")

KERNELS = ("auto", "compiled", "numpy")
COMPILE_FROM = 1 << 22
"""Values from which loading (0.5 s) or compiling (some seconds, once a machine) the kernel pays."""
THREAD_VALUES = 1 << 20
"""Values that a thread should have at least: below, starting it costs more than it saves."""
WIDENED_VALUES = 1 << 22
"""Values of a dtype that no kernel reads as it is, handed over at a time: 16 or 32 MB once widened."""
SLICE_SUMS = 1 << 17
"""Tiles of batches handed over at a time, 88 bytes of sums each."""
BLOCK_VALUES = 1 << 17
"""Float64 values that the NumPy path works on at a time: 1 MB, so that the tree's levels stay in cache."""

_NATIVE: dict[str, type[np.generic]] = {
    "bool": np.uint8,
    "uint8": np.uint8,
    "int8": np.float32,
    "int16": np.float32,
    "uint16": np.float32,
    "float16": np.float32,
    "float32": np.float32,
}
"""The dtype that the compiled kernel reads a dtype as, without loss; float64 for all others."""


@dataclass
class Choice:
    """The kernel asked for, and what was chosen last, for the asking.

    Attributes:
        name: "auto", "compiled" or "numpy".
        threads: of the compiled kernel.
        seen: values reduced so far in this process: what "auto" goes by.
    """

    name: str
    threads: int
    seen: int = 0

    def compiled_for(self, values: int) -> bool:
        """Return whether so many more values are to be reduced by the compiled kernel."""
        self.seen += values
        if self.name != "auto":
            return self.name == "compiled"
        return self.seen >= COMPILE_FROM and can_compile()


@lru_cache(maxsize=1)
def can_compile() -> bool:
    """Return whether the compiled kernel can be had; the log says so once where it cannot."""
    if find_spec("numba") is None:
        log.warning("profiling by NumPy, which is slower; for the compiled kernel: pip install 'normgauge[fast]'")
        return False
    try:
        import_module("assessor.kernels.compiled")
    except RuntimeError as error:
        log.warning("profiling by NumPy, which is slower; set NUMBA_CACHE_DIR to a writable folder: %s", error)
        return False
    return True


@lru_cache(maxsize=1)
def choice() -> Choice:
    """Return the choice in force, made from the environment at first use; its fields may be set.

    Raises:
        SettingError: a setting out of its range.
    """
    name = os.environ.get("NORMGAUGE_KERNEL", "auto")
    if name not in KERNELS:
        raise SettingError(f"expected NORMGAUGE_KERNEL among {', '.join(KERNELS)}; got {name!r}")
    if name == "compiled" and find_spec("numba") is None:
        raise SettingError("expected numba for NORMGAUGE_KERNEL=compiled; run: pip install 'normgauge[fast]'")
    threads = os.environ.get("NORMGAUGE_THREADS", "")
    if threads and not (threads.isdecimal() and int(threads) >= 1):
        raise SettingError(f"expected NORMGAUGE_THREADS to be an integer >= 1; got {threads!r}")
    return Choice(name, int(threads) if threads else usable_processors())


def usable_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slice_rows(dtype: np.dtype[Any], n_features: int, batch_size: int) -> int:
    """Return how many rows to hand over at a time, which bounds what is copied or kept of them meanwhile.

    Args:
        dtype: of the rows.
        n_features: values a row.
        batch_size: the smallest one.
    """
    rows = max(1, SLICE_SUMS // -(-n_features // TILE)) * batch_size
    return rows if _native(dtype).type == dtype.type else min(rows, max(1, WIDENED_VALUES // n_features))


def reduce_batches(
    x: NDArray[Any], size: int, first: int, row_sums: Floats | None, tree: MomentsTree, constant: NDArray[np.int64]
) -> TileSums:
    """Reduce whole batches first, first + 1, ...: all, or those before some row whose sum is not finite.

    Args:
        x: shape (batches * size, features), numbers.
        size: rows a batch.
        first: number of the first batch.
        row_sums: shape (rows,), filled with the sum of each row; None where all are known to be finite.
        tree: the dataset's moments per feature, to which the batches are added.
        constant: shape (features,), added to: batches in which the feature is constant.

    Returns:
        The sums over the features of the batches that were reduced; nothing of the others is in tree and constant.
    """
    reduce = _compiled if choice().compiled_for(x.size) else _numpy
    return reduce(x, size, first, row_sums, tree, constant)


def _numpy(
    x: NDArray[Any], size: int, first: int, row_sums: Floats | None, tree: MomentsTree, constant: NDArray[np.int64]
) -> TileSums:
    n_batches, n_features = len(x) // size, x.shape[1]
    sums = empty_sums(n_batches, n_features)
    step = max(1, BLOCK_VALUES // (size * n_features))
    for start in range(0, n_batches, step):
        stop = min(n_batches, start + step)
        rows = np.ascontiguousarray(x[start * size : stop * size], np.float64)
        if row_sums is not None:
            row_sums[start * size : stop * size] = here = sum_rows(rows)
            if not np.isfinite(here).all():
                return sums[:start]
        mean, m2 = reduce_items(rows.reshape(stop - start, size, n_features), None, 1)
        sums[start:stop] = sum_tiles(mean, m2, size, constant)
        tree.add(first + start, mean, m2, size)
    return sums


def _compiled(
    x: NDArray[Any], size: int, first: int, row_sums: Floats | None, tree: MomentsTree, constant: NDArray[np.int64]
) -> TileSums:
    x = np.ascontiguousarray(x, _native(x.dtype))
    reduce_run = _load(x.dtype)
    n_batches, n_features = len(x) // size, x.shape[1]
    sums = empty_sums(n_batches, n_features)
    n_threads = max(1, min(choice().threads, n_batches, x.size // THREAD_VALUES))
    if n_threads == 1:
        done = reduce_run(x, size, tree.run_to(first, n_batches, n_features, size), constant, row_sums, sums)
        return sums[:done]

    def reduce_part(start: int, stop: int) -> tuple[MomentsTree, NDArray[np.int64], int]:
        part, constant_here = MomentsTree(), np.zeros(n_features, np.int64)
        rows = slice(start * size, stop * size)
        sums_of_rows = None if row_sums is None else row_sums[rows]
        run = part.run_to(first + start, stop - start, n_features, size)
        return part, constant_here, reduce_run(x[rows], size, run, constant_here, sums_of_rows, sums[start:stop])

    edges = [n_batches * k // n_threads for k in range(n_threads + 1)]
    # A pool a call: one kept for good would not survive a fork, as data loaders make them. One share is done here.
    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [pool.submit(reduce_part, start, stop) for start, stop in pairwise(edges[1:])]
        parts = [reduce_part(0, edges[1]), *(other.result() for other in others)]
    done = 0
    for stop, (part, constant_here, done_here) in zip(edges[1:], parts, strict=True):
        tree.update(part.nodes)
        constant += constant_here
        done += done_here
        if done < stop:
            break
    return sums[:done]


def warm(dtype: str = "float32") -> None:
    """Load or compile the kernel for a dtype now, where one is to be used, so that no first shard waits for it."""
    chosen = choice()
    if chosen.name == "compiled" or (chosen.name == "auto" and can_compile()):
        _load(_native(np.dtype(dtype)))


@lru_cache(maxsize=64)
def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that the compiled kernel reads a dtype as."""
    return np.dtype(_NATIVE.get(dtype.name, np.float64))


@lru_cache(maxsize=8)
def _load(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Return the compiled kernel, compiled for the dtype; says how long that took."""
    start = time.perf_counter()
    from assessor.kernels.compiled import reduce_run

    one = np.zeros((1, 1), dtype)
    reduce_run(one, 1, MomentsTree().run_to(0, 1, 1, 1), np.zeros(1, np.int64), np.empty(1), empty_sums(1, 1))
    log.info(
        "compiled kernel for %s ready after %.1f s (cached for the next process)", dtype, time.perf_counter() - start
    )
    return reduce_run
