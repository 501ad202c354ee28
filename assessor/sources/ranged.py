"""Parts of an object: bytes read ahead as a stream, and the object as a file that can be sought in."""

import io
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

from assessor.cuts import ANYWHERE, Cuts, piece_bytes
from assessor.sources.stores import Readable, Source

RANGE_BYTES = 4 << 20
"""Bytes of one request: each of them costs a round trip, and is held until its rows are reduced."""
AHEAD = 4
"""Requests under way in one worker for an object in a bucket, which hide the round trips; a file's are not."""
CACHED_RANGES = 4
"""Ranges of a file that are kept for reading them again."""


def read_range(
    store: Readable, source: Source, start: int, stop: int, *, cuts: Cuts = ANYWHERE
) -> Iterator[memoryview]:
    """Yield the bytes [start, stop) of an object, in order, in pieces of at most `RANGE_BYTES`.

    At most `AHEAD` + 1 pieces are in memory at a time, whatever the range.

    Args:
        store: where it lies.
        source: the object as it was found.
        start, stop: the range.
        cuts: where pieces best end, counted from `start`.

    Raises:
        SourceError: as `Readable.read`.
    """
    second = start + piece_bytes(cuts, RANGE_BYTES)
    starts = [*range(start, min(start + 1, stop)), *range(second, stop, piece_bytes((0, cuts[1]), RANGE_BYTES))]
    edges = list(pairwise([*starts, stop]))
    if source.uri.scheme == "file" or len(edges) < 2:
        for begin, end in edges:
            yield store.view(source, begin, end)
        return
    coming: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="read") as pool:
        try:
            for begin, end in edges:
                coming.append(pool.submit(store.view, source, begin, end))
                if len(coming) >= AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


class RangedFile(io.RawIOBase):
    """An object as a file for reading and seeking; it holds `CACHED_RANGES` ranges of `RANGE_BYTES`.

    Args:
        store: where it lies.
        source: the object as it was found.
    """

    def __init__(self, store: Readable, source: Source) -> None:
        super().__init__()
        self._store = store
        self._source = source
        self._at = 0
        self._ranges: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position, counted from the beginning, here or the end; return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer at the end; all that follow where it is negative.

        Raises:
            SourceError: as `Readable.read`.
        """
        end = self._source.size_bytes
        stop = end if size is None or size < 0 else min(end, self._at + size)
        pieces = []
        while self._at < stop:
            number, offset = divmod(self._at, RANGE_BYTES)
            piece = self._range(number)[offset : offset + stop - self._at]
            pieces.append(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readall(self) -> bytes:
        """Return all bytes that follow."""
        return self.read()

    def _range(self, number: int) -> bytes:
        found = self._ranges.pop(number, None)
        if found is None:
            start = number * RANGE_BYTES
            found = self._store.read(self._source, start, min(start + RANGE_BYTES, self._source.size_bytes))
            while len(self._ranges) >= CACHED_RANGES:
                self._ranges.popitem(last=False)
        self._ranges[number] = found
        return found
