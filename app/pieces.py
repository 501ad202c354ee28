"""The buffers in which bodies are gathered: reused, and smaller the more uploads there are at once.

Larger pieces cost less a byte, since each is one hop to a worker thread and one call of a kernel; all uploads together
keep to a set number of bytes. Reused, a buffer costs no page faults.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from app.problems import ProblemError

SMALLEST_BYTES = 1 << 16
_BUFFERS_AN_UPLOAD = 2
"""One that is worked on while the other fills."""
RETRY_AFTER_S = 1


class PiecePool:
    """Buffers for all uploads of one service; used in its event loop only.

    Args:
        max_uploads: most uploads at once.
        total_bytes: what the buffers of all uploads together keep to, down to `SMALLEST_BYTES` a buffer.
        largest_bytes: largest buffer, for an upload that is alone.
    """

    def __init__(self, *, max_uploads: int, total_bytes: int, largest_bytes: int) -> None:
        self._max_uploads = max_uploads
        self._total_bytes = total_bytes
        self._largest_bytes = largest_bytes
        self._free: list[bytearray] = []
        self.uploads = 0

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
        """Return a buffer of the size that fits the uploads there are now."""
        size_bytes = self.size_bytes
        self._free = [buffer for buffer in self._free if len(buffer) == size_bytes]
        return self._free.pop() if self._free else bytearray(size_bytes)

    def give_back(self, piece: bytes | memoryview) -> None:
        """Take back the buffer of a piece that nothing uses any more, where it has one."""
        buffer = piece.obj if isinstance(piece, memoryview) else None
        if not isinstance(buffer, bytearray) or len(buffer) != self.size_bytes:
            return
        if (len(self._free) + 1) * len(buffer) <= self._total_bytes:
            self._free.append(buffer)

    @property
    def size_bytes(self) -> int:
        """Size of the next buffer: a power of two."""
        share = self._total_bytes // (_BUFFERS_AN_UPLOAD * max(1, self.uploads))
        size = max(SMALLEST_BYTES, min(share, self._largest_bytes))
        return int(1 << (size.bit_length() - 1))
