"""Arrow IPC, as a stream and as a file: record batches, one at a time.

An Arrow file is a stream between two magic words, with an index at its end; so it is read as a stream too, and the
index is compared with what came. The sizes in each message are checked before pyarrow sees it: it allocates what a
compressed buffer claims, and does not validate what it reads unless asked.

Source: Apache Arrow, "Serialization and Interprocess Communication (IPC)".
"""

from collections.abc import Iterator
from typing import Any

from assessor.errors import FormatError, GrowthLimitError, SpoolLimitError
from assessor.formats.arrow_columns import ArrowRows
from assessor.formats.arrow_library import data_errors, load_pyarrow
from assessor.formats.decoder import Part, formats
from assessor.formats.flatbuffer import RECORD_BATCH, SCHEMA, Message, read_footer, read_message
from assessor.formats.settings import DEFAULT, DecodeSettings
from assessor.formats.spool import Spool

MAX_METADATA_BYTES = 8 << 20
"""Longest description of a message; a schema takes some 130 bytes a column."""
MESSAGE_IN_MEMORY_BYTES = 16 << 20
"""A longer record batch is written to a temporary file and memory-mapped."""
CONTINUATION = b"\xff\xff\xff\xff"
MAGIC = b"ARROW1"
MOST_GROWTH = 1 << 15
"""Zstandard writes a block of at most 128 kB in no less than 4 bytes; LZ4 shrinks less, by 255 at most."""


def check_sizes(message: Message, settings: DecodeSettings) -> None:
    """Check what a record batch's metadata says of its buffers and rows against what its body can hold.

    Raises:
        FormatError: a buffer is not within the body, or there are more rows than bits for them: of the columns that
            are read, none has less than a bit a row.
    """
    at = longest = 0
    for offset, length in sorted(message.buffers):
        if length < 0 or offset < 0 or offset + length > message.body_bytes or (length and offset < at):
            raise FormatError(
                f"expected buffers one after another within {message.body_bytes} bytes of a record batch; "
                f"one is at {offset}, {length} bytes long: write it again"
            )
        at, longest = max(at, offset + length), max(longest, length)
    grown = min(longest * MOST_GROWTH, settings.max_page_bytes) if message.compressed else longest
    if not 0 <= message.rows <= 8 * grown:
        raise FormatError(
            f"expected a record batch of 0 to {8 * grown} rows, for which its longest buffer of {longest} bytes has "
            f"room; its metadata says {message.rows}: write it again"
        )
    if message.nodes and message.nodes[0][0] != message.rows:
        raise FormatError(
            f"expected {message.rows} rows in each column of a record batch, as its metadata says; the first has "
            f"{message.nodes[0][0]}: write it again"
        )


@formats.register("arrow")
class ArrowDecoder:
    """Reads an Arrow IPC stream as it arrives."""

    what = "an Arrow IPC stream"

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self._settings = settings
        self._pa = load_pyarrow()
        self._head = bytearray()
        self._message: Message | None = None
        self._spool: Spool | None = None
        self._need_bytes = 0
        self._schema: Any = None
        self._rows: ArrowRows | None = None
        self._decoded_bytes = 0
        self._at = 0
        self._blocks: list[tuple[int, int, int]] = []
        self._tail: bytearray | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows of the record batches that these bytes complete."""
        view = memoryview(data).cast("B")
        while len(view):
            if self._tail is not None:
                self._tail += view
                self._check_tail(self._tail)
                return
            used = self._take_head(view) if self._message is None else self._take_body(view)
            view = view[used:]
            if self._message is not None and not self._need_bytes:
                yield from self._complete()

    def finish(self) -> tuple[Part, ...]:
        """Check that the end came."""
        if self._tail is None:
            raise FormatError(
                f"expected {self.what} that ends with its end mark; {self._at} bytes came without it: "
                "the body was cut off, or its writer was not closed"
            )
        if self._rows is None:
            raise FormatError(f"expected {self.what} with a schema; got none: write it with pyarrow.ipc")
        return ()

    def _check_tail(self, tail: bytearray) -> None:
        if tail:
            raise FormatError(f"expected nothing after the end mark of {self.what}; {len(tail)} bytes came")

    def _take_head(self, view: memoryview) -> int:
        """Take bytes up to the end of a message's metadata; return how many."""
        need = 8 if len(self._head) < 8 else 8 + int.from_bytes(self._head[4:8], "little")
        piece = view[: need - len(self._head)]
        self._head += piece
        if len(self._head) == 8 == need:
            self._check_prefix(bytes(self._head))
        elif len(self._head) == need:
            self._message = read_message(bytes(self._head[8:]))
            self._check_message(self._message)
            self._spool = Spool(
                need + self._message.body_bytes, "an Arrow message", in_memory_bytes=MESSAGE_IN_MEMORY_BYTES
            )
            self._spool.write(self._head)
            self._need_bytes = self._message.body_bytes
        return len(piece)

    def _check_prefix(self, prefix: bytes) -> None:
        length = int.from_bytes(prefix[4:], "little")
        if prefix[:4] != CONTINUATION:
            raise FormatError(
                f"expected {self.what}, whose messages begin with {CONTINUATION!r}; got {prefix[:4]!r} "
                f"at byte {self._at}: write it with pyarrow.ipc"
            )
        if length > MAX_METADATA_BYTES:
            raise FormatError(
                f"expected an Arrow message with metadata of at most {MAX_METADATA_BYTES} bytes; got {length} "
                f"at byte {self._at}: put the features into one list column"
            )
        if not length:
            self._at += 8
            self._tail = bytearray()
            self._head.clear()

    def _check_message(self, message: Message) -> None:
        if message.kind not in (SCHEMA, RECORD_BATCH) or (message.kind == SCHEMA) != (self._schema is None):
            raise FormatError(
                f"expected a schema and then record batches in {self.what}; got a message of kind {message.kind} "
                f"at byte {self._at}: write columns of numbers, without dictionaries"
            )
        if message.body_bytes > self._settings.max_spool_bytes:
            raise SpoolLimitError(
                f"expected record batches of at most {self._settings.max_spool_bytes} bytes; got "
                f"{message.body_bytes}: write smaller ones"
            )
        check_sizes(message, self._settings)

    def _take_body(self, view: memoryview) -> int:
        assert self._spool is not None
        piece = view[: self._need_bytes]
        self._spool.write(piece)
        self._need_bytes -= len(piece)
        return len(piece)

    def _complete(self) -> Iterator[Part]:
        """Yield the rows of the message that is complete."""
        assert self._message is not None
        assert self._spool is not None
        message, head_bytes = self._message, len(self._head)
        buffer = self._spool.buffer()
        self._spool.close()
        start, self._at = self._at, self._at + head_bytes + message.body_bytes
        self._message, self._spool = None, None
        self._head.clear()
        if message.kind == RECORD_BATCH:
            self._blocks.append((start, head_bytes, message.body_bytes))
            self._check_growth(message, memoryview(buffer)[head_bytes:])
        try:
            parsed = self._pa.ipc.read_message(self._pa.py_buffer(buffer))
            if message.kind == SCHEMA:
                self._schema = self._pa.ipc.read_schema(parsed)
                self._rows = ArrowRows(self._pa, self._schema, self._settings)
                return
            assert self._rows is not None
            batch = self._pa.ipc.read_record_batch(parsed, self._schema)
            batch.validate()
            for name in self._rows.column_names:
                batch.column(name).validate(full=True)
        except data_errors(self._pa) as error:
            raise FormatError(
                f"expected {self.what}; the message at byte {start} cannot be read: {error!s:.200}: write it again"
            ) from error
        yield from self._rows.parts(batch)

    def _check_growth(self, message: Message, body: memoryview) -> None:
        """Check what the buffers of a compressed record batch claim to grow to."""
        if not message.compressed:
            return
        grown = 0
        for offset, length in message.buffers:
            claim = int.from_bytes(body[offset : offset + min(8, length)], "little", signed=True)
            grown += length if claim == -1 else max(0, claim)
        self._decoded_bytes += grown
        if grown > self._settings.max_page_bytes or self._decoded_bytes > self._settings.max_decoded_bytes:
            raise GrowthLimitError(
                f"expected compressed record batches of at most {self._settings.max_page_bytes} bytes each and "
                f"{self._settings.max_decoded_bytes} in all when decompressed; got {grown}, {self._decoded_bytes} in "
                "all: write batches of fewer rows, or uncompressed"
            )


@formats.register("arrow_file")
class ArrowFileDecoder(ArrowDecoder):
    """Reads an Arrow IPC file (Feather version 2) as it arrives, and compares its index at the end."""

    what = "an Arrow IPC file"

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        super().__init__(settings)
        self._magic = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Yield the rows of the record batches that these bytes complete."""
        view = memoryview(data).cast("B")
        if len(self._magic) < 8:
            piece = view[: 8 - len(self._magic)]
            self._magic += piece
            view = view[len(piece) :]
            if self._magic != (MAGIC + b"\0\0")[: len(self._magic)]:
                raise FormatError(f"expected {self.what}, which begins with {MAGIC!r}; got {bytes(self._magic)!r}")
            self._at = len(self._magic)
        yield from super().feed(view)

    def finish(self) -> tuple[Part, ...]:
        """Check that the index at the end lists the record batches that came, in their order."""
        super().finish()
        tail = bytes(self._tail or b"")
        length = int.from_bytes(tail[-10:-6], "little")
        if not tail.endswith(MAGIC) or len(tail) != length + 10:
            raise FormatError(
                f"expected {self.what} that ends with its index and {MAGIC!r}; got {tail[-10:]!r}: it was cut off"
            )
        listed = read_footer(tail[:length])
        if list(listed) != self._blocks:
            place = next((k for k, pair in enumerate(zip(listed, self._blocks, strict=False)) if len(set(pair)) > 1), 0)
            raise FormatError(
                f"expected {self.what} whose index lists its {len(self._blocks)} record batches in their order; it "
                f"lists {len(listed)}, number {place} differs: write it again"
            )
        return ()

    def _check_tail(self, tail: bytearray) -> None:
        if len(tail) > MAX_METADATA_BYTES:
            raise FormatError(f"expected an index of at most {MAX_METADATA_BYTES} bytes; at least {len(tail)} came")
