"""What an object holds, found by reading as little of it as its format allows: how many rows, and where they lie.

npy, safetensors, Arrow files and Parquet say it in a header or a footer. All others (CSV, JSON, NDJSON, npz, tar,
Arrow streams) are decoded once to count their rows, unless a manifest tells them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from assessor.errors import EmptyShardError, FormatError
from assessor.formats.arrow import CONTINUATION, MAGIC, MAX_METADATA_BYTES, check_sizes
from assessor.formats.decoder import Decoder, Part, TensorReader, formats
from assessor.formats.flatbuffer import RECORD_BATCH, Listed, read_footer, read_message
from assessor.formats.npy import header_length as npy_header_length
from assessor.formats.npy import make_reader
from assessor.formats.parquet_pages import metadata_length, parse_metadata
from assessor.formats.recognize import RECOGNIZED_BYTES, format_of
from assessor.formats.safetensors import header_length as tensors_header_length
from assessor.formats.safetensors import make_readers
from assessor.formats.settings import DecodeSettings, check_columns
from assessor.formats.spool import FileDecoder
from assessor.sources.ranged import AHEAD, RANGE_BYTES, RangedFile, read_range
from assessor.sources.stores import Readable, Source

HEAD_BYTES = 1 << 16
"""First or last bytes that are asked for at once; headers are mostly shorter."""
ARROW_SCHEMA_AT = 8
"""Byte at which an Arrow file's schema begins."""


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


def _arrow_file(store: Readable, source: Source, head: bytes, settings: DecodeSettings) -> Extent:
    """Return the record batches that the footer lists, of which only the metadata is read."""
    known = _KnownEnds(store, source, head)
    size_bytes = source.size_bytes
    tail = known.read(max(0, size_bytes - 10), size_bytes)
    length, end = int.from_bytes(tail[:4], "little"), size_bytes - 10
    if not tail.endswith(MAGIC) or not 0 < length <= min(MAX_METADATA_BYTES, end - ARROW_SCHEMA_AT):
        raise FormatError(f"expected an Arrow IPC file that ends with {MAGIC!r}; got {tail!r}: it was cut off")
    listed = read_footer(known.read(end - length, end))
    _check_places(listed, end - length)
    runs = _runs(listed)

    def look(run: Sequence[Listed]) -> list[Group]:
        first = run[0].offset
        data = known.read(first, run[-1].offset + run[-1].metadata_bytes)
        return [_group(data[at.offset - first :][: at.metadata_bytes], at, settings) for at in run]

    if source.uri.scheme == "file" or len(runs) < 2:
        looked = list(map(look, runs))
    else:
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="look") as pool:
            looked = list(pool.map(look, runs))
    groups = tuple(group for run in looked for group in run)
    return Extent(source, "arrow_file", sum(group.rows for group in groups), groups=groups)


def _check_places(listed: Sequence[Listed], end: int) -> None:
    """Check that record batches lie one after another, behind a schema and before `end`."""
    at = listed[0].offset if listed else end
    if listed and not 8 < at - ARROW_SCHEMA_AT <= 8 + MAX_METADATA_BYTES:
        raise FormatError(
            f"expected a schema of at most {MAX_METADATA_BYTES} bytes before the first record batch of an Arrow IPC "
            f"file; its index says that this begins at byte {at}: write it again"
        )
    for number, (offset, metadata_bytes, body_bytes) in enumerate(listed):
        follows = offset == at and 8 < metadata_bytes <= 8 + MAX_METADATA_BYTES and body_bytes >= 0
        at += metadata_bytes + body_bytes
        if not follows or at > end:
            raise FormatError(
                f"expected record batches one after another before byte {end} of an Arrow IPC file; its index says "
                f"that number {number} begins at byte {offset}, with {metadata_bytes} and {body_bytes} bytes: it was "
                "cut off or written over, write it again"
            )


def _runs(listed: Sequence[Listed]) -> list[list[Listed]]:
    """Return record batches whose metadata is read at once: what lies between costs less than another request."""
    runs: list[list[Listed]] = []
    behind = 0
    for place in listed:
        stop = place.offset + place.metadata_bytes
        if runs and place.offset - behind <= HEAD_BYTES and stop - runs[-1][0].offset <= RANGE_BYTES:
            runs[-1].append(place)
        else:
            runs.append([place])
        behind = stop
    return runs


def _group(data: bytes, place: Listed, settings: DecodeSettings) -> Group:
    """Return what the metadata of a record batch says, once it is known to go with the index and with its body."""
    prefix = CONTINUATION + (place.metadata_bytes - 8).to_bytes(4, "little")
    if data[:8] == prefix:
        message = read_message(data[8:])
        if message.kind == RECORD_BATCH and message.body_bytes == place.body_bytes:
            check_sizes(message, settings)
            return Group(message.rows, place.offset, place.offset + place.metadata_bytes + place.body_bytes)
    raise FormatError(
        f"expected a record batch of {place.metadata_bytes} and {place.body_bytes} bytes at byte {place.offset} of an "
        "Arrow IPC file, as its index says; got another message: write it again"
    )


def _parquet(store: Readable, source: Source, head: bytes, settings: DecodeSettings) -> Extent:
    known = _KnownEnds(store, source, head)
    size_bytes = source.size_bytes
    end = size_bytes - 8
    length = metadata_length(known.read(max(0, end), size_bytes), size_bytes)
    groups = []
    for group in parse_metadata(known.read(end - length, end)):
        start = min((chunk.start for chunk in group.chunks), default=0)
        stop = max((chunk.end for chunk in group.chunks), default=start)
        if not 0 <= start <= stop <= size_bytes:
            raise FormatError(
                f"expected row groups within the {size_bytes} bytes of a Parquet file; its metadata says {start} to "
                f"{stop}: it was cut off or written over, write it again"
            )
        groups.append(Group(group.rows, start, stop))
    return Extent(source, "parquet", sum(group.rows for group in groups), groups=tuple(groups))


class _KnownEnds:
    """An object of which the first bytes are at hand, and the last once they are needed; others are asked for."""

    def __init__(self, store: Readable, source: Source, head: bytes) -> None:
        self._store, self._source, self._head = store, source, head
        self._tail_at = max(len(head), source.size_bytes - HEAD_BYTES)
        self._tail = store.read(source, self._tail_at, source.size_bytes) if self._tail_at < source.size_bytes else b""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop), which are within the object."""
        if stop <= len(self._head):
            return self._head[start:stop]
        if start >= self._tail_at:
            return self._tail[start - self._tail_at : stop - self._tail_at]
        return self._store.read(self._source, start, stop)


_LAYOUTS: dict[str, Callable[[Readable, Source, bytes, DecodeSettings], Extent | None]] = {
    "npy": _npy,
    "safetensors": _safetensors,
    "arrow_file": _arrow_file,
    "parquet": _parquet,
}


def _ignore(size_bytes: int) -> None:
    """Take a progress report that nobody asked for."""
