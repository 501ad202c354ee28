"""A table that comes column by column and is wanted row by row: turned in a temporary file."""

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assessor.errors import FormatError, SpoolLimitError, no_room
from assessor.formats.decoder import Part

BLOCK_BYTES = 4 << 20


class Transposed:
    """Rows of one dtype in a memory-mapped temporary file, written by column.

    Args:
        rows, columns, dtype: of the table.
        max_bytes: most bytes of the file.

    Raises:
        FormatError: the table is larger. SettingError: there is no room for it.
    """

    def __init__(self, rows: int, columns: int, dtype: np.dtype[Any], max_bytes: int) -> None:
        size_bytes = rows * columns * dtype.itemsize
        if size_bytes > max_bytes:
            raise SpoolLimitError(
                f"expected row groups of at most {max_bytes} bytes when decoded, since many columns are turned to rows "
                f"in a temporary file; got one of {size_bytes}: write smaller row groups, put the features into one "
                "list column, or raise max_spool_bytes"
            )
        self._rows, self._dtype = rows, dtype
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        weakref.finalize(self, file.close)
        try:
            # Reserved, where the system can: a write to a mapped file that finds the disk full ends the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, size_bytes))
            else:
                file.truncate(max(1, size_bytes))
        except OSError as error:
            raise no_room(size_bytes, error) from error
        self._table: NDArray[Any] = np.memmap(file, dtype, "r+", shape=(rows, columns)) if rows else np.empty((0, 0))

    def write(self, first_row: int, column: int, values: NDArray[Any]) -> None:
        """Write some values of a column. Raises FormatError beyond the last row."""
        if first_row + len(values) > self._rows:
            raise FormatError(
                f"expected {self._rows} rows in a row group; got {first_row + len(values)}: write it again"
            )
        self._table[first_row : first_row + len(values), column] = values

    def parts(self) -> Iterator[Part]:
        """Yield the rows."""
        step = max(1, BLOCK_BYTES // max(1, self._table[:1].nbytes))
        for start in range(0, self._rows, step):
            yield Part("x", self._table[start : start + step], self._dtype.name)
