"""Content-Encoding zstd and gzip, undone while the body arrives, in pieces of bounded size.

However far a body grows, no more than one piece of it is held: `ContentDecoder.take` returns at most `PIECE_BYTES` at a
time, and the sum of all is bounded by a setting. A zstd frame may ask for a window of at most 8 MiB, which is what RFC
9659 allows the content coding. Several frames, or gzip members, one after another are one body, as both formats say
(RFC 8878 3, RFC 1952 2.2); anything else after the end is refused.
"""

import sys
import zlib
from collections.abc import Iterable
from typing import Protocol

from app.problems import ProblemError

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

PIECE_BYTES = 1 << 20
"""Most bytes decoded at a time."""
ZSTD_WINDOW_LOG = 23
"""Binary logarithm of the largest zstd window. Source: RFC 9659 3.1."""
_INPUT_BYTES = 1 << 16
_FIRST_BYTES = 1 << 12
"""Bytes handed to a decompressor at a time, and at first."""
_FREE_MEMBERS = 1000
_MEMBER_BYTES = 1 << 10
"""So many members, or frames, may be as short as they like; the others decode to so many bytes on average."""

ENCODINGS = ("zstd", "gzip")
ACCEPT_ENCODING = {"Accept-Encoding": "zstd, gzip, identity"}


class Member(Protocol):
    """One gzip member or zstd frame being decompressed, at most so many bytes at a time."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return the next bytes; what it does not need yet of `data` it keeps."""
        ...

    @property
    def eof(self) -> bool:
        """Whether its end has come."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether it gives nothing more before it gets more."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came after its end."""
        ...


class _GzipMember:
    """A zlib decompressor with the interface of the newer ones."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """As `Member.decompress`."""
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # A full piece may not be all that zlib holds, even where it has taken all input.
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out

    @property
    def eof(self) -> bool:
        """As `Member.eof`."""
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """As `Member.unused_data`."""
        return self._inner.unused_data


def _zstd_frame() -> Member:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})


class ContentDecoder:
    """Undoes one Content-Encoding. Give it bytes with `feed`, then `take` until it returns nothing.

    Args:
        encoding: "zstd" or "gzip".
        max_decoded_bytes: most bytes that all of the body may grow to.
    """

    def __init__(self, encoding: str, *, max_decoded_bytes: int) -> None:
        self._encoding = encoding
        self._make = _zstd_frame if encoding == "zstd" else _GzipMember
        self._member: Member | None = None
        self._members = 0
        self._max_decoded_bytes = max_decoded_bytes
        self._fed = memoryview(b"")
        self._taken = 0
        self.decoded_bytes = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next encoded bytes; what was fed before must have been taken. They must stay until they are."""
        assert self._taken == len(self._fed)
        self._fed, self._taken = memoryview(data), 0

    def take(self) -> bytes:
        """Return at most `PIECE_BYTES` decoded bytes; nothing once all that was fed is decoded.

        Raises:
            ProblemError: "malformed-encoding" or "decoded-too-large".
        """
        while True:
            member = self._member
            if member is None or member.needs_input:
                if self._taken == len(self._fed):
                    return b""
                # Little for a member that begins: what one leaves is copied, again for each that is short.
                size = _FIRST_BYTES if member is None else _INPUT_BYTES
                piece = bytes(self._fed[self._taken : self._taken + size])
                self._taken += len(piece)
            else:
                piece = b""
            if member is None:
                member = self._begin()
            try:
                out = member.decompress(piece, PIECE_BYTES)
            except (ZstdError, zlib.error) as error:
                raise _malformed(f"a body in Content-Encoding {self._encoding}; {error!s:.200}") from None
            if member.eof:
                self._end(member)
            if out:
                self.decoded_bytes += len(out)
                self._check_size()
                return out

    def finish(self) -> None:
        """Check that the end came.

        Raises:
            ProblemError: "malformed-encoding".
        """
        if self._member is not None or not self._members:
            raise _malformed(
                f"the end of the {self._encoding} stream; the body stopped before it, after {self.decoded_bytes} "
                "decoded bytes: it was cut off"
            )

    def _begin(self) -> Member:
        self._member = self._make()
        self._members += 1
        if self._members > _FREE_MEMBERS + self.decoded_bytes // _MEMBER_BYTES:
            raise _malformed(
                f"{self._encoding} members of at least {_MEMBER_BYTES} bytes on average when decoded; "
                f"got {self._members} for {self.decoded_bytes}: compress in larger pieces"
            )
        return self._member

    def _end(self, member: Member) -> None:
        """Put what came after a member's end back in front of what waits."""
        rest = member.unused_data
        self._member = None
        # It is the end of what was handed over last, so nothing need be copied.
        self._taken -= len(rest)

    def _check_size(self) -> None:
        if self.decoded_bytes > self._max_decoded_bytes:
            raise ProblemError(
                "decoded-too-large",
                f"expected a body of at most {self._max_decoded_bytes} bytes when decoded; got at least "
                f"{self.decoded_bytes}; send smaller shards or raise NORMGAUGE_MAX_DECODED_BYTES",
            )


def encoding_of(fields: Iterable[str]) -> str | None:
    """Return the encoding that a request's Content-Encoding fields name; None for a body as it is.

    Raises:
        ProblemError: one that is not known, or several ("unsupported-encoding").

    >>> encoding_of(["GZip"]), encoding_of(["identity"])
    ('gzip', None)
    """
    names = [name.strip().lower() for field in fields for name in field.split(",")]
    names = ["gzip" if name == "x-gzip" else name for name in names if name not in ("", "identity")]
    if len(names) > 1 or any(name not in ENCODINGS for name in names):
        raise ProblemError(
            "unsupported-encoding",
            f"expected Content-Encoding zstd, gzip or identity, one at most; got {', '.join(names)!r:.80}; "
            "compress the body once, with one of these, or not at all",
            headers=ACCEPT_ENCODING,
        )
    return names[0] if names else None


def _malformed(expected: str) -> ProblemError:
    return ProblemError("malformed-encoding", f"expected {expected}; compress it again and send it again")
