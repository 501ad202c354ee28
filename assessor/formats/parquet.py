"""Parquet: read once it is complete, some rows at a time; only the columns that are used.

Source: Apache Parquet, "File Format".
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from assessor.errors import FormatError, GrowthLimitError
from assessor.formats.arrow_columns import ArrowRows
from assessor.formats.arrow_library import data_errors, load_pyarrow
from assessor.formats.decoder import Part, formats
from assessor.formats.parquet_pages import PageCheck, RowGroup, read_metadata
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.formats.spool import FileDecoder
from assessor.formats.transposed import Transposed

BUFFER_BYTES = 1 << 17
HELD_BYTES = 32 << 20
"""Columns are read together as long as their pages and dictionaries take no more than so many bytes."""
BATCH_BYTES = 4 << 20
"""Rows are decoded so many bytes at a time."""
MAX_LIST_VALUES = 1 << 27
"""Most values of a list column in a row group: only decoding tells how they are spread over its rows."""
MAX_LIST_ENTRIES = 1 << 16
"""Most entries of a list in the metadata: columns, row groups."""


@formats.register("parquet")
class ParquetDecoder(FileDecoder):
    """Reads a Parquet file once it is complete: its metadata is at its end."""

    what = "a Parquet shard"

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        super().__init__(settings)
        self._pa = load_pyarrow()

    def read(self, file: BinaryIO, row_groups: Sequence[int] | None = None) -> Iterator[Part]:
        """Yield the rows, row group after row group; of some row groups only where their numbers are given."""
        size_bytes, groups = read_metadata(file)
        numbers = range(len(groups)) if row_groups is None else row_groups
        groups = [groups[number] for number in numbers]
        errors = data_errors(self._pa)
        try:
            parquet = self._pa.parquet.ParquetFile(
                self._pa.PythonFile(file, mode="r"),
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
                thrift_string_size_limit=1 << 20,
                thrift_container_size_limit=MAX_LIST_ENTRIES,
            )
            rows = ArrowRows(self._pa, parquet.schema_arrow, self.settings)
            columns = _leaves(parquet.schema, rows.column_names)
            reading = self._check(parquet.schema, columns, groups, PageCheck(file, size_bytes, self.settings))
        except errors as error:
            raise _unreadable(error) from error
        if reading.held_bytes <= HELD_BYTES or reading.has_lists:
            for batch in self._batches(parquet, reading.batch_rows, rows.column_names, row_groups=list(numbers)):
                yield from rows.parts(batch)
            came = rows.rows
        else:
            came = 0
            for number, group in zip(numbers, groups, strict=True):
                yield from self._wide(parquet, number, group, rows, reading)
                came += group.rows
        told = parquet.metadata.num_rows if row_groups is None else sum(group.rows for group in groups)
        if came != told:
            raise FormatError(f"expected {told} rows, as the metadata says; got {came}")

    def _batches(self, parquet: Any, batch_rows: int, names: list[str], **options: Any) -> Iterator[Any]:
        """Yield validated record batches of some columns."""
        errors = data_errors(self._pa)
        try:
            batches = parquet.iter_batches(batch_size=batch_rows, columns=names, use_threads=False, **options)
            while (batch := next(batches, None)) is not None:
                for name in names:
                    batch.column(name).validate(full=True)
                yield batch
        except errors as error:
            raise _unreadable(error) from error

    def _wide(self, parquet: Any, number: int, group: RowGroup, rows: ArrowRows, reading: "_Reading") -> Iterator[Part]:
        """Yield a row group of many columns, some of them read at a time, by way of a temporary file.

        Read all at once, each column would hold a page and a dictionary, some 3 MB.
        """
        features, labels = rows.feature_names, rows.label_names
        table = Transposed(group.rows, len(features), rows.dtype, self.settings.max_spool_bytes)
        step = max(1, len(features) * HELD_BYTES // reading.held_bytes)
        for first in range(0, len(features), step):
            names = features[first : first + step]
            at = 0
            for batch in self._batches(parquet, 1 << 14, names, row_groups=[number]):
                for k, name in enumerate(names):
                    table.write(at, first + k, rows.values(batch.column(name), name, at))
                at += batch.num_rows
            if at != group.rows:
                raise FormatError(f"expected {group.rows} rows in row group {number}; columns {names[:3]} have {at}")
        yield from table.parts()
        for batch in self._batches(parquet, 1 << 16, labels, row_groups=[number]) if labels else ():
            values = rows.values(batch.column(labels[0]), labels[0], 0)
            yield Part("y", values, values.dtype.name)
        rows.rows += group.rows

    def _check(self, schema: Any, columns: list[int], groups: list[RowGroup], pages: PageCheck) -> "_Reading":
        """Check the columns' pages in every row group; return how to read them."""
        widest = 1
        decoded = largest = 0
        for group in groups:
            if len(group.chunks) != len(schema):
                raise FormatError(f"expected {len(schema)} columns in a row group; got {len(group.chunks)}")
            values = held_bytes = 0
            for k in columns:
                chunk, column = group.chunks[k], schema.column(k)
                held_bytes += pages.check_chunk(chunk, column.path) + BUFFER_BYTES
                if chunk.values > MAX_LIST_VALUES and column.max_repetition_level:
                    raise FormatError(
                        f"expected at most {MAX_LIST_VALUES} values in a row group of list column "
                        f"{column.path!r:.80}; got {chunk.values}: write smaller row groups"
                    )
                values += chunk.values
            widest = max(widest, math.ceil(values / max(1, group.rows)))
            largest = max(largest, held_bytes)
            decoded += 8 * values
        if decoded > self.settings.max_decoded_bytes:
            raise GrowthLimitError(
                f"expected a Parquet shard of at most {self.settings.max_decoded_bytes} bytes when decoded; it has up "
                f"to {decoded}: split it, or raise max_decoded_bytes"
            )
        has_lists = any(schema.column(k).max_repetition_level for k in columns)
        return _Reading(max(1, min(1 << 16, BATCH_BYTES // (8 * widest))), largest, has_lists)


class _Reading(NamedTuple):
    """How to read: rows at a time, the bytes that all columns at once would hold, whether some are lists."""

    batch_rows: int
    held_bytes: int
    has_lists: bool


def _leaves(schema: Any, names: list[str]) -> list[int]:
    """Return the leaf columns that lie in the table's columns of these names, which may have dots in them."""
    paths = [schema.column(k).path for k in range(len(schema))]
    return [k for k, path in enumerate(paths) if any(path == name or path.startswith(name + ".") for name in names)]


def _unreadable(error: Exception) -> FormatError:
    return FormatError(f"expected a Parquet file; it cannot be read: {error!s:.200}: write it again")
