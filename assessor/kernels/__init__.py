"""Reduction of whole batches at memory speed: a compiled kernel and a NumPy path, one dispatch, the same bits."""

from assessor.kernels.dispatch import Choice, Reduced, choice, reduce_batches, warm
from assessor.kernels.tiles import TileSums, add_doubled, sum_rows, sum_squares, sum_tiles

__all__ = [
    "Choice",
    "Reduced",
    "TileSums",
    "add_doubled",
    "choice",
    "reduce_batches",
    "sum_rows",
    "sum_squares",
    "sum_tiles",
    "warm",
]
