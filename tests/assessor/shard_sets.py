"""Datasets cut into shards of every format that can be cut, and of one that cannot."""

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import safetensors.numpy
from numpy.typing import NDArray

Write = Callable[[NDArray[Any], NDArray[Any]], bytes]


def npy(x: NDArray[Any], y: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


def tensors(x: NDArray[Any], y: NDArray[Any]) -> bytes:
    return bytes(safetensors.numpy.save({"x": x, "y": y}))


def _table(x: NDArray[Any], y: NDArray[Any]) -> Any:
    flat = x.reshape(len(x), -1)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    return pa.table({"x": lists, "y": pa.array(y)})


def arrow_file(x: NDArray[Any], y: NDArray[Any]) -> bytes:
    sink = io.BytesIO()
    table = _table(x, y)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


def parquet(x: NDArray[Any], y: NDArray[Any]) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(_table(x, y), sink, row_group_size=11)
    return sink.getvalue()


def csv(x: NDArray[Any], y: NDArray[Any]) -> bytes:
    flat = x.reshape(len(x), -1)
    head = ",".join([*(f"f{k}" for k in range(flat.shape[1])), "y"])
    lines = [",".join([*map(repr, map(float, row)), str(int(label))]) for row, label in zip(flat, y, strict=True)]
    return "\n".join([head, *lines, ""]).encode()


WRITERS: dict[str, Write] = {
    "npy": npy,
    "safetensors": tensors,
    "arrow": arrow_file,
    "parquet": parquet,
    "csv": csv,
}
"""By the end of the name; all but npy carry the labels."""


def cut_at(n: int, places: Sequence[int]) -> list[slice]:
    """Return slices of n rows that are cut at these places."""
    edges = sorted({0, n, *(place % n for place in places)})
    return [slice(a, b) for a, b in pairwise(edges)]
