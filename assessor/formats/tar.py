"""A tar file's members, as their bytes come.

The standard library's streaming mode pulls from a file; a decoder is pushed, so only its reader of headers is used.

Source: POSIX.1-2008 pax, GNU tar's long names.
"""

import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from assessor.errors import FormatError

BLOCK = tarfile.BLOCKSIZE
MAX_NAME_BYTES = 1 << 16
"""Longest extended header: a long name, or a member's attributes."""
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
_PASSED = (tarfile.DIRTYPE, tarfile.XGLTYPE)


class Member(NamedTuple):
    """A regular file in the tar: its name and, where it was asked for, its bytes."""

    name: str
    data: bytes


class TarReader:
    """Cuts a tar file, as it comes, into members.

    Args:
        limit_for: most bytes that a member of this name may have to be kept; None lets its bytes pass. It may raise.
    """

    def __init__(self, limit_for: Callable[[str], int | None]) -> None:
        self._limit_for = limit_for
        self._buffer = bytearray()
        self._header: tarfile.TarInfo | None = None
        self._keeps = True
        self._left = 0
        self._long: dict[str, str] = {}
        self._zeros = 0
        self._at = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Member]:
        """Yield the members that these bytes complete."""
        view = memoryview(data).cast("B")
        while len(view):
            if self._header is None:
                piece = view[: BLOCK - len(self._buffer)]
                self._buffer += piece
                view = view[len(piece) :]
                if len(self._buffer) == BLOCK:
                    block = bytes(self._buffer)
                    self._buffer.clear()
                    self._at += BLOCK
                    self._take_header(block)
            else:
                piece = view[: self._left]
                self._left -= len(piece)
                view = view[len(piece) :]
                if self._keeps:
                    self._buffer += piece
            if self._header is not None and not self._left:
                yield from self._complete(self._header)

    def finish(self) -> None:
        """Check that the tar's end came: at least one block of zeros."""
        if self._header is not None or self._buffer or not self._zeros:
            name = "" if self._header is None else f", within member {self._header.name!r:.200}"
            raise FormatError(
                f"expected a tar file that ends with blocks of zeros; {self._at} bytes came{name}: it was cut off"
            )

    def _take_header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self._zeros += 1
            return
        if self._zeros:
            raise FormatError(
                f"expected nothing after the end of the tar file, a block of zeros; byte {self._at - BLOCK} is more: "
                "send one tar file a shard"
            )
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise FormatError(
                f"expected a tar header at byte {self._at - BLOCK}; it is none: {error!s:.200}: "
                "write the file with tarfile or webdataset, without compression"
            ) from error
        if header.type in _FILES and self._long.get("path", header.name).endswith("/"):
            header.type = tarfile.DIRTYPE  # as tar files before ustar mark folders
        if header.type not in _FILES + _EXTENDED + _PASSED or header.size < 0:
            raise FormatError(
                f"expected regular files in the tar; {header.name!r:.200} is of type {header.type!r}: "
                "leave out links and devices"
            )
        if header.type in _FILES:
            header.name = self._long.get("path", header.name)
            header.size = self._size(header.size)
            limit = self._limit_for(header.name)
        else:
            limit = None if header.type in _PASSED else MAX_NAME_BYTES
        if limit is not None and header.size > limit:
            raise FormatError(
                f"expected a member of at most {limit} bytes; {header.name!r:.200} has {header.size}: make it smaller"
            )
        if header.type in _FILES + _PASSED[:1]:
            self._long = {}  # they are of the member that follows them
        self._header, self._keeps = header, limit is not None
        self._left = 0 if header.type == tarfile.DIRTYPE else -(-header.size // BLOCK) * BLOCK
        self._at += self._left

    def _size(self, size: int) -> int:
        text = self._long.get("size", str(size))
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise FormatError(f"expected the size of a tar member in decimal; got {text!r:.80}")
        return int(text)

    def _complete(self, header: tarfile.TarInfo) -> Iterator[Member]:
        data = bytes(self._buffer[: header.size]) if self._keeps else b""
        self._buffer.clear()
        self._header = None
        if header.type == tarfile.GNUTYPE_LONGNAME:
            self._long = {"path": data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}
        elif header.type == tarfile.XHDTYPE:
            self._long = _attributes(data)
        elif header.type in _FILES:
            yield Member(header.name, data)


def _attributes(data: bytes) -> dict[str, str]:
    """Return pax attributes: records "length key=value\\n", where the length counts all of it."""
    found: dict[str, str] = {}
    while data:
        digits, space, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not space or not equals or length > len(data) or data[length - 1 : length] != b"\n":
            raise FormatError(f"expected attributes of a tar member; got {data[:40]!r}: write the file again")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    if any(key.startswith("GNU.sparse") for key in found):
        raise FormatError("expected whole files in the tar; one is sparse: write it without --sparse")
    return found
