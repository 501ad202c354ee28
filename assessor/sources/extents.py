"""What an object holds, found by reading as little of it as its format allows: how many rows, and where they lie.

npy, safetensors, Arrow files and Parquet say it in a header or a footer. All others (CSV, JSON, NDJSON, npz, tar,
Arrow streams) are decoded once to count their rows, unless a manifest tells them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from assessor.errors import EmptyShardError, FormatError
from assessor.formats.arrow import MAGIC, MAX_METADATA_BYTES
from assessor.formats.decoder import Decoder, Part, TensorReader, formats
from assessor.formats.flatbuffer import read_footer, read_message
from assessor.formats.npy import header_length as npy_header_length
from assessor.formats.npy import make_reader
from assessor.formats.parquet_pages import read_metadata
from assessor.formats.recognize import RECOGNIZED_BYTES, format_of
from assessor.formats.safetensors import header_length as tensors_header_length
from assessor.formats.safetensors import make_readers
from assessor.formats.settings import DecodeSettings, check_columns
from assessor.formats.spool import FileDecoder
from assessor.sources.ranged import RangedFile, read_range
from assessor.sources.stores import Readable, Source

HEAD_BYTES = 1 << 16
"""First bytes that are asked for at once; headers are mostly shorter."""


@dataclass(frozen=True)
class Tensor:
    """An array in an object: `name` "x" or "y", its first byte, its shape, how it is stored and what that is called."""

    name: str
    offset: int
    shape: tuple[int, ...]
    stored: str
    label: str

    def reader(self, rows: int, settings: DecodeSettings) -> TensorReader:
        """Return a reader of so many of its rows."""
        import numpy as np

        return TensorReader(self.name, (rows, *self.shape[1:]), np.dtype(self.stored), self.label, settings)


@dataclass(frozen=True)
class Group:
    """Rows that can only be read together: a record batch or a row group, with its bytes [start, stop)."""

    rows: int
    start: int
    stop: int


@dataclass(frozen=True)
class Extent:
    """An object's rows.

    Attributes:
        source: the object as it was found.
        format: a name in `formats`.
        rows: how many rows it has.
        tensors: its arrays, for formats that can be cut at any row.
        groups: for formats that can be cut between groups of rows.
    """

    source: Source
    format: str
    rows: int
    tensors: tuple[Tensor, ...] = ()
    groups: tuple[Group, ...] = ()


def inspect_source(
    store: Readable,
    source: Source,
    settings: DecodeSettings,
    *,
    format: str | None = None,
    rows: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Extent:
    """Return where the rows of an object lie.

    Args:
        store: that holds it.
        source: the object as it was found.
        settings: limits, and which columns are what.
        format: None recognizes it, by the name's end or the first bytes.
        rows: how many it has, where that is known; it is then not decoded to count them.
        on_bytes: called with the number of bytes read to count rows.

    Raises:
        ShardError: it is empty or malformed. SourceError: it cannot be read.
    """
    name, extent = read_layout(store, source, settings, format=format)
    if extent is None:
        counted = rows
        if counted is None:
            counted = _count(decode_all(store, source, name, settings, on_bytes or _ignore))
        extent = Extent(source, name, counted)
    if not extent.rows:
        raise EmptyShardError("expected at least one row; the shard has none: leave it out")
    if rows is not None and extent.rows != rows:
        raise FormatError(f"expected {rows} rows, as the manifest says; the shard has {extent.rows}: write it again")
    return extent


def read_layout(
    store: Readable, source: Source, settings: DecodeSettings, *, format: str | None = None
) -> tuple[str, Extent | None]:
    """Return an object's format, and what its header says of its rows; None where the format has no such header.

    Raises:
        ShardError: it is empty or malformed. SourceError: it cannot be read. SettingError: columns of what has none.
    """
    if not source.size_bytes:
        raise EmptyShardError("expected a shard; it has no bytes: leave it out")
    head = store.read(source, 0, min(HEAD_BYTES, source.size_bytes))
    name = format or format_of(head[:RECOGNIZED_BYTES], PurePosixPath(source.uri.name))
    formats.get(name)
    check_columns(name, settings)
    return name, _LAYOUTS[name](store, source, head, settings) if name in _LAYOUTS else None


def decode_all(
    store: Readable, source: Source, format: str, settings: DecodeSettings, on_bytes: Callable[[int], None]
) -> Iterator[Part]:
    """Yield all rows of an object, read as a stream, or as a file where its format needs one."""
    decoder: Decoder = formats.get(format)(settings)
    if isinstance(decoder, FileDecoder):
        yield from decoder.read(cast(BinaryIO, RangedFile(store, source)))
        on_bytes(source.size_bytes)
        return
    for piece in read_range(store, source, 0, source.size_bytes):
        yield from decoder.feed(piece)
        on_bytes(len(piece))
    yield from decoder.finish()


def _count(parts: Iterator[Part]) -> int:
    return sum(len(part.block) for part in parts if part.name == "x")


def _npy(store: Readable, source: Source, head: bytes, settings: DecodeSettings) -> Extent | None:
    length = npy_header_length(head[:12])
    if length is None or length > len(head):
        raise FormatError(f"expected an npy file; only {source.size_bytes} bytes of its header came: it was cut off")
    reader = make_reader(head[:length], "x", settings)
    return _of_tensors(source, "npy", length, [reader])


def _safetensors(store: Readable, source: Source, head: bytes, settings: DecodeSettings) -> Extent | None:
    length = tensors_header_length(head[:9])
    if length is None or length > source.size_bytes:
        raise FormatError(f"expected a safetensors file; it ends within its header, at byte {source.size_bytes}")
    if length > len(head):
        head += store.read(source, len(head), length)
    return _of_tensors(source, "safetensors", length, make_readers(head[8:length], settings))


def _of_tensors(source: Source, format: str, offset: int, readers: list[TensorReader]) -> Extent:
    tensors = []
    for reader in readers:
        tensors.append(Tensor(reader.name, offset, reader.shape, reader.dtype.str, reader.label))
        offset += reader.n_bytes
    if offset != source.size_bytes:
        raise FormatError(
            f"expected {offset} bytes, as the header says; the object has {source.size_bytes}: "
            "it was cut off or written over, write it again"
        )
    rows = next(tensor.shape[0] for tensor in tensors if tensor.name == "x")
    return Extent(source, format, rows, tensors=tuple(tensors))


def _arrow_file(store: Readable, source: Source, head: bytes, settings: DecodeSettings) -> Extent | None:
    """Return the record batches that the footer lists; None where they do not lie one after another."""
    tail = store.read(source, max(0, source.size_bytes - 10), source.size_bytes)
    length = int.from_bytes(tail[:4], "little")
    if not tail.endswith(MAGIC) or length > min(MAX_METADATA_BYTES, source.size_bytes - 10):
        raise FormatError(f"expected an Arrow IPC file that ends with {MAGIC!r}; got {tail!r}: it was cut off")
    end = source.size_bytes - 10
    listed = read_footer(store.read(source, end - length, end))
    groups = []
    at = listed[0][0] if listed else 0
    for offset, metadata_bytes, body_bytes in listed:
        if offset != at or not 8 < metadata_bytes <= MAX_METADATA_BYTES or body_bytes < 0 or offset > end:
            return None  # the decoder says what is wrong
        at = offset + metadata_bytes + body_bytes
        message = read_message(store.read(source, offset + 8, offset + metadata_bytes))
        groups.append(Group(message.rows, offset, at))
    return Extent(source, "arrow_file", sum(group.rows for group in groups), groups=tuple(groups))


def _parquet(store: Readable, source: Source, head: bytes, settings: DecodeSettings) -> Extent | None:
    _, found = read_metadata(cast(BinaryIO, RangedFile(store, source)))
    groups = []
    for group in found:
        start = min((chunk.start for chunk in group.chunks), default=0)
        groups.append(Group(group.rows, start, max((chunk.end for chunk in group.chunks), default=start)))
    return Extent(source, "parquet", sum(group.rows for group in groups), groups=tuple(groups))


_LAYOUTS: dict[str, Callable[[Readable, Source, bytes, DecodeSettings], Extent | None]] = {
    "npy": _npy,
    "safetensors": _safetensors,
    "arrow_file": _arrow_file,
    "parquet": _parquet,
}


def _ignore(size_bytes: int) -> None:
    """Take a progress report that nobody asked for."""
