"""Parquet: read once it is complete, some rows at a time; only the columns that are used.

Source: Apache Parquet, "File Format".
"""

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from assessor.errors import FormatError
from assessor.formats.arrow_columns import ArrowRows
from assessor.formats.arrow_library import data_errors, load_pyarrow
from assessor.formats.decoder import Part, formats
from assessor.formats.parquet_pages import PageCheck, RowGroup, read_metadata
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.formats.spool import FileDecoder

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

    def read(self, file: BinaryIO) -> Iterator[Part]:
        """Yield the rows, row group after row group."""
        size_bytes, groups = read_metadata(file)
        errors = data_errors(self._pa)
        try:
            parquet = self._pa.parquet.ParquetFile(
                self._pa.PythonFile(file, mode="r"),
                pre_buffer=False,
                buffer_size=1 << 20,
                thrift_string_size_limit=1 << 20,
                thrift_container_size_limit=MAX_LIST_ENTRIES,
            )
            rows = ArrowRows(self._pa, parquet.schema_arrow, self.settings)
            columns = _leaves(parquet.schema, rows.column_names)
            batch_rows = self._check(parquet.schema, columns, groups, PageCheck(file, size_bytes, self.settings))
            batches = parquet.iter_batches(batch_size=batch_rows, columns=rows.column_names, use_threads=False)
        except errors as error:
            raise _unreadable(error) from error
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    break
                for name in rows.column_names:
                    batch.column(name).validate(full=True)
            except errors as error:
                raise _unreadable(error) from error
            yield from rows.parts(batch)
        if rows.rows != parquet.metadata.num_rows:
            raise FormatError(f"expected {parquet.metadata.num_rows} rows, as the metadata says; got {rows.rows}")

    def _check(self, schema: Any, columns: list[int], groups: list[RowGroup], pages: PageCheck) -> int:
        """Check the columns' pages in every row group; return how many rows to decode at a time."""
        widest = 1
        decoded = 0
        for group in groups:
            if len(group.chunks) != len(schema):
                raise FormatError(f"expected {len(schema)} columns in a row group; got {len(group.chunks)}")
            values = 0
            for k in columns:
                chunk, column = group.chunks[k], schema.column(k)
                pages.check_chunk(chunk, column.path)
                if chunk.values > MAX_LIST_VALUES and column.max_repetition_level:
                    raise FormatError(
                        f"expected at most {MAX_LIST_VALUES} values in a row group of list column "
                        f"{column.path!r:.80}; got {chunk.values}: write smaller row groups"
                    )
                values += chunk.values
            widest = max(widest, math.ceil(values / max(1, group.rows)))
            decoded += 8 * values
        if decoded > self.settings.max_decoded_bytes:
            raise FormatError(
                f"expected a Parquet shard of at most {self.settings.max_decoded_bytes} bytes when decoded; it has up "
                f"to {decoded}: split it, or raise max_decoded_bytes"
            )
        return max(1, min(1 << 16, BATCH_BYTES // (8 * widest)))


def _leaves(schema: Any, names: list[str]) -> list[int]:
    """Return the leaf columns that lie in the table's columns of these names, which may have dots in them."""
    paths = [schema.column(k).path for k in range(len(schema))]
    return [k for k, path in enumerate(paths) if any(path == name or path.startswith(name + ".") for name in names)]


def _unreadable(error: Exception) -> FormatError:
    return FormatError(f"expected a Parquet file; it cannot be read: {error!s:.200}: write it again")
