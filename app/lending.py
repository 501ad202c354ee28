"""The rest of a body, lent to a worker thread: read from the connection's own socket by the thread that profiles it.

What the event loop reads for a thread crosses from one processor's cache to another's, and costs a turn of each for
every piece. A thread that reads for itself has the bytes where it needs them, and leaves the loop to other requests.

Lent is a body whose length is known and of which much is left. Only what is there is read so: a thread is no place to
wait for a client. When nothing comes for a moment the body goes back to the event loop, which gathers the next piece
(`app.gathering`), with its limits on time.
"""

import os
import select
import time
from collections.abc import Callable

LENDING = "normgauge.lending"
"""The ASGI extension by which an application borrows the rest of a request's body; see `ServiceProtocol.lend`."""
PATIENCE_S = 0.005
"""Time that a thread waits for bytes in all, while one body is lent to it: the sender's turn on a busy machine."""


class LentBody:
    """Bytes of a body on their way from its socket; read in one thread at a time, given back in the event loop.

    Args:
        socket: a descriptor of the connection, its own to close; it never blocks.
        head: bytes of the body that had come already.
        size_bytes: of what is left of the body, with `head`.
        on_back: called with the number of bytes that were read from the socket.
    """

    def __init__(self, socket: int, head: bytes, size_bytes: int, on_back: Callable[[int], None]) -> None:
        self._socket = socket
        self._head = memoryview(head)
        self._on_back = on_back
        self._in_socket = size_bytes - len(head)
        self._read_bytes = 0
        self._patience_s = PATIENCE_S
        self.left = size_bytes
        """Bytes that nobody has taken yet."""
        self.dry = False
        """Whether nothing more came: the rest is for the event loop to wait for."""

    def fill(self, room: memoryview) -> int:
        """Return how many bytes were read to `room`: all of it, unless the body has ended or run dry."""
        filled = min(len(room), len(self._head))
        room[:filled] = self._head[:filled]
        self._head = self._head[filled:]
        while filled < len(room) and self._in_socket and not self.dry:
            n = self._read(room[filled : filled + self._in_socket])
            self._in_socket -= n
            self._read_bytes += n
            filled += n
        self.left -= filled
        return filled

    def give_back(self) -> None:
        """Let the event loop read on, from where this ended."""
        os.close(self._socket)
        self._on_back(self._read_bytes)

    def _read(self, room: memoryview) -> int:
        try:
            n = os.readv(self._socket, [room])
        except BlockingIOError:
            self._wait()
            return 0
        except OSError:  # the connection broke, as the event loop will find too
            n = 0
        self.dry = not n
        return n

    def _wait(self) -> None:
        """Wait for bytes, as long as there is patience left."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        began = time.monotonic()
        self.dry = not poll.poll(self._patience_s * 1000)
        self._patience_s = max(0.0, self._patience_s - (time.monotonic() - began))
