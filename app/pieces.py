"""The buffers in which bodies are gathered: reused, and smaller the more uploads there are at once.

Larger pieces cost less a byte, since each is one hop to a worker thread and one call of a kernel; all uploads together
keep to a set number of bytes, also while more of them begin and those before still fill larger buffers. Reused, a
buffer costs no page faults.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from app.problems import ProblemError

SMALLEST_BYTES = 1 << 16
RETRY_AFTER_S = 1


class _Buffer(bytearray):
    """A buffer that says when it goes, whoever held it last: the thread of a call that was cancelled, say."""

    def __init__(self, size_bytes: int, gone: deque[int]) -> None:
        super().__init__(size_bytes)
        self._gone = gone

    def __del__(self) -> None:
        self._gone.append(len(self))


class PiecePool:
    """Buffers for all uploads of one service; used in its event loop only.

    Args:
        max_uploads: most uploads at once.
        total_bytes: what the buffers of all uploads together keep to, down to `SMALLEST_BYTES` a buffer.
        largest_bytes: largest buffer, for an upload that is alone.
        processors: that the uploads share.
    """

    def __init__(self, *, max_uploads: int, total_bytes: int, largest_bytes: int, processors: int = 1) -> None:
        self._processors = processors
        self._max_uploads = max_uploads
        self._total_bytes = total_bytes
        self._largest_bytes = largest_bytes
        self._free: list[bytearray] = []
        self.uploads = 0
        self._made_bytes = 0
        # Any thread may be the last to hold one; appending needs no lock.
        self._gone: deque[int] = deque()

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Count one more upload while the block runs.

        Raises:
            ProblemError: there are too many ("too-many-uploads").
        """
        if self.uploads >= self._max_uploads:
            raise ProblemError(
                "too-many-uploads",
                f"expected at most {self._max_uploads} shards to come in at once; got one more; "
                "send it again in a moment, or raise NORMGAUGE_MAX_UPLOADS",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    def take(self) -> bytearray:
        """Return a buffer of the size that fits the uploads there are now, smaller while larger ones are in use."""
        size_bytes = self.size_bytes
        self._free = [buffer for buffer in self._free if len(buffer) == size_bytes]
        if self._free:
            return self._free.pop()
        left = self._total_bytes - self.held_bytes
        size_bytes = min(size_bytes, _power_of_two(max(SMALLEST_BYTES, left)))
        self._made_bytes += size_bytes
        return _Buffer(size_bytes, self._gone)

    def give_back(self, piece: bytes | memoryview) -> None:
        """Take back the buffer of a piece that nothing uses any more, where it has one."""
        buffer = piece.obj if isinstance(piece, memoryview) else None
        if isinstance(buffer, _Buffer) and len(buffer) == self.size_bytes and self.held_bytes <= self._total_bytes:
            self._free.append(buffer)

    @property
    def buffers_an_upload(self) -> int:
        """One that is worked on and one that fills; while processors are left, one more that waits for its worker.

        Then no worker stands idle until the event loop has handed it the next piece. Where there are as many uploads as
        processors, the others work meanwhile.
        """
        return 3 if max(1, self.uploads) < self._processors else 2

    @property
    def held_bytes(self) -> int:
        """Size of all buffers that there are, free or not."""
        while self._gone:
            self._made_bytes -= self._gone.popleft()
        return self._made_bytes

    @property
    def size_bytes(self) -> int:
        """Size of the next buffer: a power of two."""
        share = self._total_bytes // (self.buffers_an_upload * max(1, self.uploads))
        size = max(SMALLEST_BYTES, min(share, self._largest_bytes))
        return _power_of_two(size)


def _power_of_two(size: int) -> int:
    """Return the largest power of two that is not above a size.

    >>> _power_of_two(1023), _power_of_two(1024)
    (512, 1024)
    """
    return int(1 << (size.bit_length() - 1))
