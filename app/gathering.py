"""A request's body, gathered from packets to pieces before the application sees it.

Each piece costs the application a turn of the event loop and a hop to a thread, each packet costs neither. So packets
are copied to a buffer of the pool as they come, and the application gets it when it is full, when the body ends, or a
moment after its first byte. It owns the buffer then; what gives it back to the pool lets it be used again.
"""

import asyncio
from collections.abc import Callable

from app.pieces import PiecePool
from assessor.cuts import Cuts, piece_bytes

LATENCY_S = 0.1
"""Longest time that bytes wait for others."""
_MOST_WAITING = 64
"""Chunks that wait on their own: of one byte each they would cost forty times their size, and long to move."""
UNREAD_BYTES = 1 << 16
"""What is taken of a body before the application asks for it, and of a body that is small, without a buffer."""

CUTS = "normgauge.cuts"
"""The ASGI extension by which an application says where the pieces of a request's body best end (`Gatherer.cut`)."""


class Gatherer:
    """The body of one request on its way from the parser to the application.

    Args:
        pool: where buffers come from.
        loop: for the moment after which bytes are handed on.
        wake: called when there is something to take.
    """

    def __init__(self, pool: PiecePool, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._loop = loop
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._buffer: bytearray | None = None
        self._filled = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._spare: bytearray | None = None
        self._wanted = False
        self._ended = False
        self._taken_bytes = 0
        self._limit = 0
        self._cuts: Cuts | None = None
        self.complete = False

    @property
    def full(self) -> bool:
        """Whether nothing more should be read before this is taken."""
        if self._buffer is None:
            return self._waiting_bytes > UNREAD_BYTES
        return self._filled == self._limit

    @property
    def ready(self) -> bool:
        """Whether there is something to take at once."""
        return self.complete or self.full

    def add(self, body: bytes) -> None:
        """Take bytes from the parser."""
        if len(self._waiting) == _MOST_WAITING:
            self._waiting = [b"".join(self._waiting)]
        self._waiting.append(body)
        self._waiting_bytes += len(body)
        if self._wanted:
            self._fill()
        self._wake_when_ready()

    def room(self, most: int) -> memoryview:
        """Return where to read the next bytes to, at most so many: the buffer, or what is added to those that wait."""
        if self._buffer is None and self._wanted:
            self._begin_buffer()
        self._fill()
        self._spare = None
        if self._buffer is not None and self._filled < self._limit:
            return memoryview(self._buffer)[self._filled : min(self._limit, self._filled + most)]
        self._spare = bytearray(min(most, UNREAD_BYTES))
        return memoryview(self._spare)

    def came(self, size_bytes: int) -> None:
        """Take so many bytes that were read to the room which was given last."""
        if self._spare is not None:
            body, self._spare = bytes(memoryview(self._spare)[:size_bytes]), None
            self.add(body)
        else:
            self._filled += size_bytes
            self._wake_when_ready()

    def want(self) -> None:
        """Say that the application asks for more, so that a buffer pays; wakes it when there is something.

        After the end there is nothing: an application that goes on asking waits for the client to go.
        """
        if self._ended:
            return
        self._wanted = True
        self._fill()
        if self.complete or self._waiting or self._buffer is not None:
            self._wake_when_ready()

    def cut(self, cuts: Cuts) -> None:
        """Let pieces end where they best do, counted from the body's first byte; none gets larger."""
        self._cuts = cuts

    def end(self) -> None:
        """Say that the body is complete."""
        self.complete = True
        self._wake()

    def take(self) -> tuple[bytes | memoryview, bool]:
        """Return what there is, and whether more is to come. The caller owns it; a view's buffer is of the pool."""
        self._stop_timer()
        body: bytes | memoryview
        if self._buffer is None:
            body = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting, self._waiting_bytes = [], 0
        else:
            body = memoryview(self._buffer)[: self._filled]
            self._buffer, self._filled = None, 0
        self._taken_bytes += len(body)
        self._wanted = False
        # What waits gets a buffer when it is wanted: there is one that fills, one that is worked on, and no third.
        self._ended = self.complete and not self._waiting_bytes
        return body, not self._ended

    @property
    def begun(self) -> bool:
        """Whether some of the body is in a buffer already: that is to be taken first."""
        return self._buffer is not None

    def lend(self) -> bytes:
        """Return what waits, where none has `begun`; it, and what follows until `passed`, is read past this one."""
        assert self._buffer is None
        self._stop_timer()
        head = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._taken_bytes += len(head)
        return head

    def passed(self, size_bytes: int) -> None:
        """Say that so many bytes were read past this one, and no more will be."""
        self._taken_bytes += size_bytes

    def close(self) -> None:
        """End without more."""
        self._stop_timer()

    def _begin_buffer(self) -> None:
        """Take a buffer, to be filled up to the last place where a piece best ends, if there is one in it."""
        self._buffer, self._filled = self._pool.take(), 0
        self._limit = len(self._buffer)
        if self._cuts is not None:
            self._limit = piece_bytes((self._cuts[0] - self._taken_bytes, self._cuts[1]), self._limit)

    def _fill(self) -> None:
        """Copy what waits to a buffer, where that is much."""
        while self._waiting and (self._buffer is not None or self._waiting_bytes > UNREAD_BYTES):
            if self._buffer is None:
                self._begin_buffer()
            assert self._buffer is not None
            chunk = self._waiting[0]
            n = min(len(chunk), self._limit - self._filled)
            if not n:
                return
            self._buffer[self._filled : self._filled + n] = chunk if n == len(chunk) else memoryview(chunk)[:n]
            self._filled += n
            self._waiting_bytes -= n
            self._waiting[:1] = [] if n == len(chunk) else [chunk[n:]]

    def _wake_when_ready(self) -> None:
        if self.ready:
            self._wake()
        elif self._timer is None:
            self._timer = self._loop.call_later(LATENCY_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
