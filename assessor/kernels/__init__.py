"""Reduction of whole batches at memory speed: a compiled kernel and a NumPy path, one dispatch, the same bits."""

from assessor.kernels.dispatch import Choice, choice, reduce_batches, warm
from assessor.kernels.tiles import TileSums, add_doubled, pooled_means, sum_rows, sum_squares, sum_tiles

__all__ = [
    "Choice",
    "TileSums",
    "add_doubled",
    "choice",
    "pooled_means",
    "reduce_batches",
    "sum_rows",
    "sum_squares",
    "sum_tiles",
    "warm",
]
