"""From Arrow columns to blocks of rows, for Arrow and Parquet.

One column of lists is samples of that shape; several columns are joined, each flattened, to samples of rank 1.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import (
    DtypeError,
    EmptyShardError,
    FeatureLimitError,
    FormatError,
    LabelError,
    NonFiniteError,
    ShapeError,
)
from assessor.formats.columns import ColumnChoice, choose_columns
from assessor.formats.decoder import MAX_AXES, Part
from assessor.formats.settings import DecodeSettings

BLOCK_BYTES = 4 << 20
"""Rows that are joined from several columns at a time, which copies them."""
_NUMBERS = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
_FLOATS = {"halffloat", "float", "double"}
Array = Any
"""A pyarrow.Array; the library is loaded only when it is needed."""


class ArrowRows:
    """Turns the record batches of one schema into parts.

    Args:
        pyarrow: the library.
        schema: a pyarrow.Schema.
        settings: which columns, and the limits.

    Raises:
        DtypeError: a column that is not of numbers, or lists of them. LabelError, FormatError, ShapeError: see
            `choose_columns`.
    """

    def __init__(self, pyarrow: Any, schema: Any, settings: DecodeSettings) -> None:
        self._pa = pyarrow
        self._schema = schema
        self._settings = settings
        self.choice: ColumnChoice = choose_columns(schema.names, settings)
        self.rows = 0
        for k in self.choice.features:
            self._check_type(schema.field(k))
        if self.choice.label is not None:
            label = schema.field(self.choice.label)
            if str(label.type) not in _NUMBERS:
                raise LabelError(
                    f"expected labels of an integer type in column {label.name!r:.80}; got {label.type!s:.80}: "
                    "number the classes"
                )

    @cached_property
    def column_names(self) -> list[str]:
        """Names of the columns that are read."""
        return self.feature_names + [name for name in self.label_names if name not in self.feature_names]

    @property
    def feature_names(self) -> list[str]:
        """Names of the features' columns."""
        return [self._schema.names[k] for k in self.choice.features]

    @property
    def label_names(self) -> list[str]:
        """Name of the labels' column, or none."""
        return [] if self.choice.label is None else [self._schema.names[self.choice.label]]

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the features' columns, all of plain numbers, are joined to."""
        return np.result_type(*{self._schema.field(k).type.to_pandas_dtype() for k in self.choice.features})

    def values(self, array: Array, name: str, offset: int) -> NDArray[Any]:
        """Return a column of plain numbers; `offset` rows beyond `rows` came before it."""
        self.rows += offset
        try:
            return self._values(array, name)
        finally:
            self.rows -= offset

    def parts(self, batch: Any) -> Iterator[Part]:
        """Yield the rows of a record batch, whose columns have been validated."""
        if batch.num_rows:
            names = self._schema.names
            arrays = [(names[k], batch.column(names[k])) for k in self.choice.features]
            yield from self._features(arrays, batch.num_rows)
            if self.choice.label is not None:
                name = names[self.choice.label]
                labels = self._values(batch.column(name), name)
                yield Part("y", labels, labels.dtype.name)
            self.rows += batch.num_rows

    def _features(self, arrays: list[tuple[str, Array]], rows: int) -> Iterator[Part]:
        blocks = [self._block(array, name) for name, array in arrays]
        if len(blocks) == 1:
            block = blocks[0] if blocks[0].ndim > 1 else blocks[0][:, None]
            yield Part("x", block, block.dtype.name)
            return
        width = sum(math.prod(block.shape[1:]) for block in blocks)
        if width > self._settings.max_features:
            raise FeatureLimitError(f"expected samples of at most {self._settings.max_features} values; got {width}")
        dtype = np.result_type(*{block.dtype for block in blocks})
        step = max(1, BLOCK_BYTES // (width * dtype.itemsize))
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            joined = np.empty((stop - start, width), dtype)
            at = 0
            for block in blocks:
                piece = block[start:stop].reshape(stop - start, -1)
                joined[:, at : at + piece.shape[1]] = piece
                at += piece.shape[1]
            yield Part("x", joined, dtype.name)

    def _block(self, array: Array, name: str) -> NDArray[Any]:
        """Return a column as an array of shape (rows, *lists)."""
        sample = array.type.shape if isinstance(array.type, self._pa.FixedShapeTensorType) else None
        array = array.storage if sample is not None else array
        shape = [len(array)]
        while self._is_list(array.type):
            array = self._without_nulls(array, name, shape)
            length = self._length(array, name, shape)
            if math.prod(shape[1:]) * length > self._settings.max_features:
                raise FeatureLimitError(
                    f"expected samples of at most {self._settings.max_features} values; column {name!r:.80} has lists "
                    f"of {length} values"
                )
            array = self._flat(array, length, name)
            shape.append(length)
        if sample is not None and math.prod(sample) != math.prod(shape[1:]):
            raise FormatError(f"expected tensors of shape {sample} in column {name!r:.80}; got {shape[1:]} values")
        return self._values(array, name, shape).reshape(shape if sample is None else [shape[0], *sample])

    def _flat(self, array: Array, length: int, name: str) -> Array:
        """Return the values of lists of one length, one list after another."""
        if not length:
            raise EmptyShardError(
                f"expected at least one feature; column {name!r:.80} has lists without values "
                f"from row {self.rows}: leave the shard out"
            )
        return array.flatten()

    def _length(self, array: Array, name: str, shape: list[int]) -> int:
        if self._pa.types.is_fixed_size_list(array.type):
            return int(array.type.list_size)
        lengths = np.diff(array.offsets.to_numpy(zero_copy_only=False).astype(np.int64))
        if (lengths != lengths[0]).any():
            k = int(np.flatnonzero(lengths != lengths[0])[0])
            raise ShapeError(
                f"expected lists of one length; column {name!r:.80} has {lengths[0]} values in row {self.rows} and "
                f"{lengths[k]} in row {self._row(k, shape)}: cut or pad them"
            )
        return int(lengths[0])

    def _values(self, array: Array, name: str, shape: list[int] | None = None) -> NDArray[Any]:
        array = self._without_nulls(array, name, shape or [len(array)])
        values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return np.require(values, requirements="A")

    def _without_nulls(self, array: Array, name: str, shape: list[int]) -> Array:
        if array.null_count and not (self._settings.missing and self._pa.types.is_floating(array.type)):
            k = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            inside = f", value {k % max(1, math.prod(shape[1:]))}" if len(shape) > 1 else ""
            raise NonFiniteError(
                f"expected a value everywhere; row {self._row(k, shape)}, column {name!r:.80}{inside} is null: "
                "remove or impute such values first"
            )
        return array

    def _row(self, k: int, shape: list[int]) -> int:
        """Return the row of the k-th of the values at a depth of lists."""
        return self.rows + k // max(1, math.prod(shape[1:]))

    def _is_list(self, kind: Any) -> bool:
        types = self._pa.types
        return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))

    def _check_type(self, field: Any) -> None:
        kind, depth = field.type, 0
        if isinstance(kind, self._pa.FixedShapeTensorType) and kind.permutation in (None, [*range(len(kind.shape))]):
            kind = kind.value_type
        while self._is_list(kind) and depth < MAX_AXES:
            kind, depth = kind.value_type, depth + 1
        if str(kind) not in _NUMBERS | _FLOATS:
            raise DtypeError(
                f"expected numbers, or lists of them, in column {field.name!r:.80}; got {field.type!s:.80}: "
                "leave the column out, or name the columns to read"
            )
