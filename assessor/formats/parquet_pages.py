"""What a Parquet file claims, checked before it is decoded: the length of its metadata, the size of each page.

pyarrow allocates what a page's header says it grows to, and what a dictionary's header says it holds. The metadata is
read here too: asked for a bad column chunk, pyarrow 26 ends the process (RowGroupMetaData.column).
"""

from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from assessor.errors import FormatError, GrowthLimitError
from assessor.formats.settings import DecodeSettings
from assessor.formats.thrift import CompactReader

MAX_METADATA_BYTES = 8 << 20
"""Longest metadata of a file: some 100 bytes a column in each row group."""
MAX_PAGE_HEADER_BYTES = 1 << 16
MAGIC = b"PAR1"
_PAGE_FIELDS: dict[int, int] = {0: 5, 2: 7, 3: 8}
"""Where a page's own header is, by its type: data, dictionary, data of version 2."""
_WIDTHS = {1: 4, 2: 8, 4: 4, 5: 8, 7: 2}
"""Bytes of a value by its physical type: int32, int64, float, double, and two bytes for a half."""


class Chunk(NamedTuple):
    """Where the pages of a column in a row group are, and how many values they have."""

    start: int
    end: int
    values: int
    width: int


class RowGroup(NamedTuple):
    """A row group: its rows, and a chunk for each leaf column."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_metadata(file: BinaryIO) -> tuple[int, list[RowGroup]]:
    """Return the size of a file and its row groups.

    Raises:
        FormatError: it is no Parquet, or its metadata is longer than pyarrow should read.
    """
    size_bytes = file.seek(0, 2)
    file.seek(max(0, size_bytes - 8))
    length = metadata_length(file.read(8), size_bytes)
    file.seek(size_bytes - 8 - length)
    return size_bytes, parse_metadata(file.read(length))


def metadata_length(tail: bytes, size_bytes: int) -> int:
    """Return the length of the metadata, which ends 8 bytes before the end of a file.

    Args:
        tail: the file's last bytes, at least 8 of them.
        size_bytes: the file's size.

    Raises:
        FormatError: it is no Parquet, or its metadata is longer than pyarrow should read.
    """
    tail = tail[-8:]
    if size_bytes < 12 or tail[4:] != MAGIC:
        raise FormatError(
            f"expected a Parquet file that ends with its metadata and {MAGIC!r}; got {tail!r} at its end: "
            "it was cut off, or is no Parquet"
        )
    length = int.from_bytes(tail[:4], "little")
    if length > min(MAX_METADATA_BYTES, size_bytes - 12):
        raise FormatError(
            f"expected Parquet metadata of at most {min(MAX_METADATA_BYTES, size_bytes - 12)} bytes; got {length}: "
            "write fewer row groups, or put the features into one list column"
        )
    return length


def parse_metadata(metadata: bytes) -> list[RowGroup]:
    """Return a file's row groups.

    Raises:
        FormatError: the metadata is malformed; its row groups do not have the rows that it says there are in all, or
            have more than their columns have values.
    """
    file = CompactReader(metadata).struct()
    listed = file.get(4)
    groups = [_row_group(group) for group in listed] if isinstance(listed, list) else []
    rows = sum(group.rows for group in groups)
    if file.get(3) != rows:
        raise FormatError(f"expected {file.get(3)!r:.80} rows, as the metadata says; its row groups have {rows}")
    return groups


def _row_group(group: dict[int, object]) -> RowGroup:
    listed, rows = group.get(1), group.get(3)
    if not isinstance(listed, list) or not isinstance(rows, int) or rows < 0:
        raise FormatError(f"expected a row group with columns and a number of rows; got {rows!r:.80} rows")
    chunks = tuple(_chunk(chunk.get(3)) for chunk in listed)
    least = min((chunk.values for chunk in chunks), default=0)
    if rows > least:
        raise FormatError(f"expected a value a row in each column of a row group of {rows} rows; one has {least}")
    return RowGroup(rows, chunks)


def _chunk(metadata: object) -> Chunk:
    fields = metadata if isinstance(metadata, dict) else {}
    numbers = [value for key in (1, 5, 7, 9) if isinstance(value := fields.get(key), int)]
    if len(numbers) < 4:
        raise FormatError(f"expected a column chunk with its type, values, size and place; got {fields!r:.200}")
    kind, values, size, start = numbers
    dictionary = fields.get(11)
    if isinstance(dictionary, int) and 0 < dictionary < start:
        start = dictionary
    return Chunk(start, start + size, values, _WIDTHS.get(kind, 1))


@dataclass
class PageCheck:
    """Adds up what the pages of column chunks claim.

    Attributes:
        file: the Parquet file.
        size_bytes: its size.
        settings: the limits.
        grown_bytes: what all pages together grow to.
    """

    file: BinaryIO
    size_bytes: int
    settings: DecodeSettings
    grown_bytes: int = 0
    _stored_bytes: int = field(default=0, init=False)
    _held_bytes: int = field(default=0, init=False)
    _dictionary_bytes: int = field(default=0, init=False)

    def check_chunk(self, chunk: Chunk, name: str) -> int:
        """Return the bytes that reading one chunk of the column called `name` holds: its dictionary and a page.

        Raises:
            FormatError: its pages are not where they should be, or too large.
        """
        at, end, expected, _ = chunk
        self._dictionary_bytes = 0
        values = held_bytes = 0
        if not 4 <= at <= end <= self.size_bytes or expected < 0:
            raise FormatError(
                f"expected column {name!r:.80} within the file's {self.size_bytes} bytes; its metadata says {at} to "
                f"{end}: write it again"
            )
        while at < end and values < expected:
            self.file.seek(at)
            reader = CompactReader(self.file.read(min(MAX_PAGE_HEADER_BYTES, end - at)), max_structs=64)
            values += self._check_page(reader.struct(), name, chunk.width)
            at += reader.at + self._stored_bytes
            held_bytes = max(held_bytes, self._held_bytes)
        if values != expected or at > end:
            raise FormatError(
                f"expected {expected} values in column {name!r:.80}; its pages have {values} in "
                f"{end - at} bytes less than it says: write it again"
            )
        return self._dictionary_bytes + held_bytes

    def _check_page(self, header: dict[int, object], name: str, width: int) -> int:
        """Return the number of values in a page, 0 for a dictionary, whose values take `width` bytes each."""
        grown, stored = header.get(2), header.get(3)
        kind = header.get(1)
        is_dictionary = kind == 2
        page = header.get(_PAGE_FIELDS.get(kind, 0)) if isinstance(kind, int) else None
        values = page.get(1) if isinstance(page, dict) else None
        if not isinstance(grown, int) or not isinstance(stored, int) or not isinstance(values, int):
            raise FormatError(f"expected a page header with its sizes in column {name!r:.80}; got {header!r:.200}")
        if min(grown, stored, values) < 0 or (is_dictionary and values * width > grown):
            raise FormatError(f"expected sizes >= 0 that fit in a page of column {name!r:.80}; got {header!r:.200}")
        self.grown_bytes += grown
        self._stored_bytes, self._held_bytes = stored, grown + stored
        if grown > self.settings.max_page_bytes or self.grown_bytes > self.settings.max_decoded_bytes:
            raise GrowthLimitError(
                f"expected pages of at most {self.settings.max_page_bytes} bytes, "
                f"{self.settings.max_decoded_bytes} in all, when decompressed; column {name!r:.80} has one of {grown}, "
                f"{self.grown_bytes} in all: write smaller pages, or raise max_page_bytes"
            )
        if is_dictionary:
            self._dictionary_bytes = 2 * grown
        return 0 if is_dictionary else values
