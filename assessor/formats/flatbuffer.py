"""Just enough of FlatBuffers to read the sizes in an Arrow message before anything is done with it.

Source: flatbuffers.dev, "FlatBuffer Internals"; Arrow's format/Message.fbs and File.fbs.
"""

import struct
from typing import NamedTuple

from assessor.errors import FormatError

RECORD_BATCH = 3
SCHEMA = 1


class Message(NamedTuple):
    """The sizes of one Arrow message.

    Attributes:
        kind: SCHEMA, RECORD_BATCH or another of MessageHeader.
        body_bytes: length of the body that follows.
        rows: of a record batch.
        nodes: (length, nulls) of its columns and of what is in them, a column before what is in it.
        compressed: whether its buffers are.
        buffers: (offset, length) of its buffers in the body.
    """

    kind: int
    body_bytes: int
    rows: int = 0
    nodes: tuple[tuple[int, int], ...] = ()
    compressed: bool = False
    buffers: tuple[tuple[int, int], ...] = ()


class Listed(NamedTuple):
    """A record batch in the footer of an Arrow file: where it begins, the bytes of its metadata and of its body."""

    offset: int
    metadata_bytes: int
    body_bytes: int


class _Table:
    """A table in a buffer: fields by their number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        vtable = at - _read("<i", data, at)
        size = _read("<H", data, vtable)
        self._offsets = [_read("<H", data, vtable + k) for k in range(4, size, 2)]

    def number(self, field: int, code: str) -> int:
        """Return a scalar; 0 where it is left out, which is every default here."""
        offset = self._offsets[field] if field < len(self._offsets) else 0
        return _read(code, self._data, self._at + offset) if offset else 0

    def place(self, field: int) -> int | None:
        """Return where a table or vector begins; None where it is left out."""
        offset = self._offsets[field] if field < len(self._offsets) else 0
        return self._at + offset + _read("<I", self._data, self._at + offset) if offset else None

    def table(self, field: int) -> "_Table | None":
        """Return a table within this one."""
        place = self.place(field)
        return None if place is None else _Table(self._data, place)

    def structs(self, field: int, code: str) -> tuple[tuple[int, ...], ...]:
        """Return a vector of structs."""
        place = self.place(field)
        if place is None:
            return ()
        count, size = _read("<I", self._data, place), struct.calcsize(code)
        end = place + 4 + count * size
        if end > len(self._data):
            raise FormatError(f"expected {count} entries in an Arrow message; it is too short for them: write it again")
        return tuple(struct.iter_unpack(code, self._data[place + 4 : end]))


def _read(code: str, data: bytes, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(code):
        raise FormatError("expected an Arrow message whose offsets lie within it: write it again")
    return int(struct.unpack_from(code, data, at)[0])


def read_message(metadata: bytes) -> Message:
    """Return the sizes in a message's metadata.

    Raises:
        FormatError: it is no Arrow message.
    """
    message = _Table(metadata, _read("<I", metadata, 0))
    kind, body_bytes = message.number(1, "<B"), message.number(3, "<q")
    if body_bytes < 0:
        raise FormatError(f"expected an Arrow message with a body of 0 bytes or more; got {body_bytes}")
    header = message.table(2)
    if kind == SCHEMA and header is not None and header.number(0, "<h"):
        raise FormatError("expected an Arrow stream of little-endian numbers; got big-endian ones: write it again")
    if kind != RECORD_BATCH or header is None:
        return Message(kind, body_bytes)
    nodes = tuple((length, nulls) for length, nulls in header.structs(1, "<qq"))
    buffers = tuple((offset, length) for offset, length in header.structs(2, "<qq"))
    return Message(kind, body_bytes, header.number(0, "<q"), nodes, header.place(3) is not None, buffers)


def read_footer(footer: bytes) -> tuple[Listed, ...]:
    """Return the record batches that an Arrow file's footer lists.

    Raises:
        FormatError: it is no footer.
    """
    blocks = _Table(footer, _read("<I", footer, 0)).structs(3, "<qi4xq")
    return tuple(Listed(*block) for block in blocks)
