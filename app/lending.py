"""The rest of a body, lent to a worker thread: read from the connection's own socket by the thread that profiles it.

What the event loop reads for a thread crosses from one processor's cache to another's, and costs a turn of each for
every piece. A thread that reads for itself has the bytes where it needs them, and leaves the loop to other requests.

Lent is a body whose length is known and of which much is left. Only what is there is read so: a thread is no place to
wait for a client. When too little comes the body goes back to the event loop, which gathers the next piece
(`app.gathering`), with its limits on time.
"""

import os
import time
from collections.abc import Callable

LENDING = "normgauge.lending"
"""The ASGI extension by which an application borrows the rest of a request's body; see `ServiceProtocol._lend`."""
PASSED = "normgauge.passed"
"""In a request's scope, what counts its bytes: called with the number of those that were read from a lent body."""
PACE_BYTES_PER_S = 1e9
"""A thread waits for a piece no longer than its bytes would take at this rate: slower senders are the event loop's."""
PAUSE_S = 0.0002
"""How long it waits at a time: much comes meanwhile. To be woken by the first packet would cost both sides for each."""


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
        self.left = size_bytes
        """Bytes that nobody has taken yet."""
        self.dry = False
        """Whether nothing more came: the rest is for the event loop to wait for."""
        self.recalled = False
        """Whether it is to be given back as soon as may be; set in the event loop."""

    def fill(self, room: memoryview, enough: int) -> int:
        """Return how many bytes were read to `room`: what is there; `enough`, unless the body has ended or run dry."""
        patience_s = len(room) / PACE_BYTES_PER_S
        filled = min(len(room), len(self._head))
        room[:filled] = self._head[:filled]
        self._head = self._head[filled:]
        while filled < len(room) and self._in_socket:
            n = self._read(room[filled : filled + self._in_socket])
            if n is None and filled >= enough:
                break
            if n is None and patience_s > 0:
                patience_s -= PAUSE_S
                time.sleep(PAUSE_S)
                continue
            if not n:
                self.dry = True
                break
            self._in_socket -= n
            self._read_bytes += n
            filled += n
        self.left -= filled
        return filled

    def recall(self) -> None:
        """Ask for it back."""
        self.recalled = True

    def give_back(self) -> None:
        """Let the event loop read on, from where this ended."""
        os.close(self._socket)
        self._on_back(self._read_bytes)

    def _read(self, room: memoryview) -> int | None:
        """Return how many bytes were read: 0 at the end of the connection, None where there are none at present."""
        try:
            return os.readv(self._socket, [room])
        except BlockingIOError:
            return None
        except OSError:  # the connection broke, as the event loop will find too
            return 0
