"""A body whose length is known, read from its socket straight into a buffer of the pool.

What goes through the parser is copied three times on its way: to a packet, to what the parser hands out, to the buffer.
Of a body whose Content-Length is known nothing has to be parsed. So while such a one comes in, the connection's
transport is given a stand-in for its protocol, which is read into; after the body's last byte it is given back.
"""

import asyncio
from typing import Protocol


class BodyOwner(Protocol):
    """The protocol of a connection, of which one body is read."""

    def body_room(self) -> memoryview:
        """Return where the next bytes of the body go: at least one, and no more than are left of it."""
        ...

    def body_came(self, size_bytes: int) -> None:
        """Say that so many bytes were read there."""
        ...

    def eof_received(self) -> bool | None:
        """As of `asyncio.Protocol`, like the others."""
        ...

    def connection_lost(self, exc: Exception | None) -> None: ...  # noqa: D102  # see eof_received

    def pause_writing(self) -> None: ...  # noqa: D102

    def resume_writing(self) -> None: ...  # noqa: D102


class BodyReceiver(asyncio.BufferedProtocol):
    """The stand-in: bytes go to the owner's room, all other events to the owner."""

    def __init__(self, owner: BodyOwner) -> None:
        self._owner = owner
        self.connection_lost = owner.connection_lost  # type: ignore[method-assign]
        self.eof_received = owner.eof_received  # type: ignore[method-assign]
        self.pause_writing = owner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = owner.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return self._owner.body_room()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._owner.body_came(nbytes)
