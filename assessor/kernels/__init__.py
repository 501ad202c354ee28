"""Reduction of whole batches at memory speed: a compiled kernel and a NumPy path, one dispatch, the same bits."""

from assessor.kernels.dispatch import KERNELS, Choice, choice, reduce_batches, usable_processors, warm
from assessor.kernels.tiles import TileSums, add_doubled, pooled_means, sum_rows, sum_squares, sum_tiles

__all__ = [
    "KERNELS",
    "Choice",
    "TileSums",
    "add_doubled",
    "choice",
    "pooled_means",
    "reduce_batches",
    "sum_rows",
    "sum_squares",
    "sum_tiles",
    "usable_processors",
    "warm",
]
