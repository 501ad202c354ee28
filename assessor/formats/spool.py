"""A shard that is read from its end: kept in a temporary file while it comes."""

import mmap
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import BinaryIO, cast

from assessor.errors import FormatError, SpoolLimitError, no_room
from assessor.formats.decoder import Part
from assessor.formats.settings import DEFAULT, DecodeSettings

IN_MEMORY_BYTES = 8 << 20
"""A shorter shard never touches the disk."""


class Spool:
    """Bytes in memory, and in a temporary file once they are many; the file goes with the object.

    Args:
        max_bytes: most bytes that are taken.
        what: for the message, "a Parquet shard".
    """

    def __init__(self, max_bytes: int, what: str, *, in_memory_bytes: int = IN_MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._what = what
        self._in_memory_bytes = in_memory_bytes
        self._file = tempfile.SpooledTemporaryFile(max_size=in_memory_bytes)  # noqa: SIM115 - closed by `close`
        self.close = weakref.finalize(self, self._file.close)
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            FormatError: more than `max_bytes`. SettingError: there is no room for a temporary file.
        """
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            self.close()
            raise SpoolLimitError(
                f"expected {self._what} of at most {self._max_bytes} bytes, since it is kept until its end has "
                f"come; at least {self.size_bytes} came: send smaller shards, a format that is read as a stream "
                "(safetensors, Arrow), or raise max_spool_bytes"
            )
        try:
            self._file.write(data)
        except OSError as error:
            self.close()
            raise no_room(self.size_bytes, error) from error

    def file(self) -> BinaryIO:
        """Return the bytes as a file at its beginning."""
        self._file.seek(0)
        return cast(BinaryIO, self._file)

    def buffer(self) -> bytes | mmap.mmap:
        """Return the bytes, memory-mapped if they are in a file; valid after `close` too."""
        if self.size_bytes <= self._in_memory_bytes:
            return self.file().read()
        self._file.flush()
        return mmap.mmap(self._file.fileno(), self.size_bytes, access=mmap.ACCESS_READ)


class FileDecoder(ABC):
    """A decoder of a format that only a whole file can be read of.

    What is fed goes to a spool; `finish` reads it. A file on disk is read in place, by `read`.
    """

    what = "a shard"

    def __init__(self, settings: DecodeSettings = DEFAULT) -> None:
        self.settings = settings
        self._spool: Spool | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """Keep these bytes; no row is complete before the last of them."""
        if self._spool is None:
            self._spool = Spool(self.settings.max_spool_bytes, self.what)
        self._spool.write(data)
        return iter(())

    def finish(self) -> Iterator[Part]:
        """Yield all rows."""
        if self._spool is None:
            raise FormatError(f"expected {self.what}; no byte came: send it again")
        try:
            yield from self.read(self._spool.file())
        finally:
            self._spool.close()

    @abstractmethod
    def read(self, file: BinaryIO) -> Iterator[Part]:
        """Yield all rows of a file that can be sought in. Raises ShardError for what is not the format."""
