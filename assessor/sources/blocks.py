"""Objects cut into blocks of rows, each of which can be read by itself.

npy and safetensors are cut between batches, Arrow files between record batches, Parquet between row groups; other
formats are one block. The cutting depends on the object, its first row and settings, never on the number of workers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import BinaryIO, cast

from assessor.cuts import ANYWHERE, Cuts
from assessor.formats.arrow import CONTINUATION, ArrowDecoder
from assessor.formats.decoder import Part
from assessor.formats.parquet import ParquetDecoder
from assessor.formats.settings import DecodeSettings
from assessor.sources.extents import ARROW_SCHEMA_AT, Extent, decode_all
from assessor.sources.ranged import RangedFile, read_range
from assessor.sources.stores import Readable, Source

LEAST_STRIDES = 8
"""Parts are at least so many times as long as what their edges are a multiple of, unless that is a single batch."""
BLOCK_ROWS = 1 << 20
"""Most rows of a block, where its format can be cut so: a worker holds some 20 bytes of each while it profiles it."""
_END = CONTINUATION + bytes(4)


@dataclass(frozen=True)
class Block:
    """Rows [first, first + rows) of an object.

    Attributes:
        extent: the object; of its groups, those in the block only.
        first, rows: the rows, counted from the object's first.
        first_group: number of the block's first group in the object.
        schema_stop: where the schema of an Arrow file ends.
        whole: whether these are all of the object's rows.
        size_bytes: bytes read for it, about.
    """

    extent: Extent
    first: int
    rows: int
    first_group: int
    schema_stop: int
    whole: bool
    size_bytes: int

    @property
    def source(self) -> Source:
        """The object as it was found."""
        return self.extent.source


def cut(extent: Extent, block_bytes: int, *, first_row: int = 0, batch_size: int = 1) -> list[Block]:
    """Return the blocks of an object, in order, where its format can be cut: of about `block_bytes`, at least one row.

    They have BLOCK_ROWS rows at most, or about so many.

    Args:
        extent: the object.
        block_bytes: >= 1.
        first_row: number of the object's first row in the dataset.
        batch_size: rows that are best left together, counted from the dataset's first row; they are where blocks are
            at least twice as long. What is cut costs more than the rows of some batches. Where blocks are at least
            sixteen times as long, they end with a power of two of batches, so that their profiles have fewer nodes.
    """
    if extent.tensors:
        row_bytes = -(-sum(_size(tensor.shape, tensor.stored) for tensor in extent.tensors) // extent.rows)
        most = min(BLOCK_ROWS, max(1, block_bytes // max(1, row_bytes)))
        edges = _edges(extent.rows, most, first_row, batch_size)
        whole = len(edges) == 2
        return [
            Block(extent, first, stop - first, 0, 0, whole, (stop - first) * row_bytes)
            for first, stop in pairwise(edges)
        ]
    runs: list[tuple[int, int]] = []
    at = size = n_rows = 0
    for number, group in enumerate(extent.groups):
        size += group.stop - group.start
        n_rows += group.rows
        if size >= block_bytes or n_rows >= BLOCK_ROWS or number + 1 == len(extent.groups):
            runs.append((at, number + 1))
            at, size, n_rows = number + 1, 0, 0
    if len(runs) < 2:
        return [Block(replace(extent, groups=()), 0, extent.rows, 0, 0, True, extent.source.size_bytes)]
    blocks, first = [], 0
    for begin, end in runs:
        groups = extent.groups[begin:end]
        rows, size = sum(group.rows for group in groups), sum(group.stop - group.start for group in groups)
        if rows:
            schema_stop = extent.groups[0].start
            blocks.append(Block(replace(extent, groups=groups), first, rows, begin, schema_stop, False, size))
        first += rows
    return blocks


def _edges(rows: int, most: int, first_row: int, batch_size: int) -> list[int]:
    """Return where to cut rows into parts of about `most`, all about as long: 0, ..., rows.

    Inner edges go to the nearest multiple of a stride, counted from the dataset's first row: the most batches that are
    a power of two and at most an eighth of a part. A part's batches are then few nodes of the tree over all batches
    (`assessor.moments`), each of which costs 16 bytes a feature, and a part is at most a stride longer or shorter.
    """
    n = max(1, round(rows / most))
    edges = [rows * k // n for k in range(n + 1)]
    if 2 * batch_size <= most:
        stride = batch_size << max(0, (most // (LEAST_STRIDES * batch_size)).bit_length() - 1)
        half = (stride - 1) // 2
        edges[1:-1] = [(first_row + edge + half) // stride * stride - first_row for edge in edges[1:-1]]
    return edges


def read_block(
    store: Readable,
    block: Block,
    settings: DecodeSettings,
    on_bytes: Callable[[int], None],
    best_cuts: Callable[[int], Cuts] = lambda row_bytes: ANYWHERE,
) -> Iterator[Part]:
    """Yield the rows of a block and their labels; a few megabytes are in memory at a time.

    Args:
        store: that holds the object.
        block: what to read.
        settings: limits, and which columns are what.
        on_bytes: called with the number of bytes of each piece read.
        best_cuts: `Profiler.best_cuts` of the profiler that the rows are for.

    Raises:
        ShardError: the object is malformed. SourceError: it cannot be read, or has changed.
    """
    extent = block.extent
    if extent.tensors:
        yield from _tensors(store, block, settings, on_bytes, best_cuts)
    elif block.whole:
        yield from decode_all(store, extent.source, extent.format, settings, on_bytes)
    elif extent.format == "parquet":
        numbers = range(block.first_group, block.first_group + len(extent.groups))
        yield from ParquetDecoder(settings).read(cast(BinaryIO, RangedFile(store, extent.source)), numbers)
        on_bytes(block.size_bytes)
    else:
        yield from _record_batches(store, block, settings, on_bytes)


def _tensors(
    store: Readable,
    block: Block,
    settings: DecodeSettings,
    on_bytes: Callable[[int], None],
    best_cuts: Callable[[int], Cuts],
) -> Iterator[Part]:
    for tensor in block.extent.tensors:
        reader = tensor.reader(block.rows, settings)
        row_bytes = reader.n_bytes // block.rows
        start = tensor.offset + block.first * row_bytes
        rows, stride = best_cuts(row_bytes) if reader.name == "x" else ANYWHERE
        cuts = rows * row_bytes, stride * row_bytes
        for piece in read_range(store, block.source, start, start + reader.n_bytes, cuts=cuts):
            yield from reader.feed(piece)
            on_bytes(len(piece))


def _record_batches(
    store: Readable, block: Block, settings: DecodeSettings, on_bytes: Callable[[int], None]
) -> Iterator[Part]:
    """Read record batches as the stream that the schema, they and an end mark make."""
    decoder = ArrowDecoder(settings)
    groups = block.extent.groups
    yield from decoder.feed(store.read(block.source, ARROW_SCHEMA_AT, block.schema_stop))
    for piece in read_range(store, block.source, groups[0].start, groups[-1].stop):
        yield from decoder.feed(piece)
        on_bytes(len(piece))
    yield from decoder.feed(_END)
    yield from decoder.finish()


def _size(shape: tuple[int, ...], stored: str) -> int:
    import math

    import numpy as np

    return math.prod(shape) * np.dtype(stored).itemsize
