"""A body on its way from the request to a sink, such as `app.ingest.ShardReader`, whose work is done in worker threads.

One that may be is borrowed by such a thread, which reads it from the connection's socket a buffer at a time
(`app.lending`). Others come in pieces through the event loop: one that is worked on, one that waits, and one that is
coming in (`app.lines`); so does what a borrowed one leaves when its sender is slower than the thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from anyio import CapacityLimiter
from fastapi import Request
from starlette.requests import ClientDisconnect

from app.digests import ContentDigests
from app.encodings import ContentDecoder, encoding_of
from app.gathering import CUTS
from app.lending import LENDING, PASSED, LentBody
from app.limits import allow_body
from app.lines import Consumer, Lines, at_once
from app.service import Service
from assessor.cuts import Cuts, piece_bytes

ENOUGH_PARTS = 4
"""A thread waits for more bytes until so small a part of its buffer is filled: smaller pieces cost more a byte."""
PIECES_OF_A_LOAN = 16
"""After so many a body is given back where a larger buffer may be had; at once where others need some of this one."""


class Sink(Protocol):
    """What a body is read into. Nothing may be kept of a piece.

    Attributes:
        cuts: where pieces best end, see `app.gathering.Gatherer.cut`; None where that is not known, or does not matter.
    """

    @property
    def cuts(self) -> Cuts | None: ...  # noqa: D102  # see above

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece; blocks."""
        ...


async def read_body(request: Request, sink: Sink, service: Service) -> None:
    """Read a request's body into a sink, whose work is done in worker threads.

    Raises:
        ProblemError: the body is over a limit, or not what its headers say; or what the sink raises.
        ClientDisconnect: the connection was cut in mid-body.
    """
    inlet = _Inlet(request, sink, service)
    with service.pieces.upload():
        await inlet.run()


@dataclass(frozen=True)
class _Borrowed:
    """The rest of a body, its bytes, and the buffer that a worker thread reads it to."""

    body: LentBody
    buffer: bytearray
    size_bytes: int


_Handed = bytes | memoryview | _Borrowed


class _Inlet:
    """One body on its way: its digest checked, decompressed, and given to a sink, a piece at a time."""

    def __init__(self, request: Request, sink: Sink, service: Service) -> None:
        self._request = request
        self._service = service
        self._sink = sink
        encoding = encoding_of(request.headers.getlist("content-encoding"))
        self._digests = ContentDigests(request.headers.getlist("content-digest"))
        self._decoder: ContentDecoder | None = None
        if encoding is not None:
            most = service.settings.max_decoded_bytes
            self._decoder = ContentDecoder(encoding, max_decoded_bytes=most)
        self._size_bytes = 0
        self._passed_bytes = 0
        extensions = request.scope.get("extensions", {})
        # What is decompressed, or hashed by another thread, comes piece by piece through the event loop.
        as_it_is = encoding is None
        self._cut: Callable[[Cuts], None] | None = extensions[CUTS]["cut"] if as_it_is and CUTS in extensions else None
        self._lend: Callable[[], LentBody | None] = lambda: None
        if as_it_is and not self._digests and LENDING in extensions:
            self._lend = extensions[LENDING]["lend"]
        self._limit = allow_body(request)

    async def run(self) -> None:
        """Read the body to its end."""
        lines = Lines(self._consumers(), self._on_done, most=lambda: self._service.pieces.buffers_an_upload)
        try:
            more = True
            while more:
                more = not await self._borrow(lines) and await self._receive(lines)
            await lines.end()
            self._check_end()
        finally:
            # On an error or a disconnect a thread may still run: wait, so that no state is shared with it afterwards.
            await lines.abandon()

    async def _borrow(self, lines: Lines[_Handed]) -> bool:
        """Let a worker thread read as much as is there, where it may; return whether that was all."""
        while (body := self._lend()) is not None:
            try:
                borrowed = _Borrowed(body, self._service.pieces.take(), body.left)
            except BaseException:  # no memory, say: nothing else would ever give it back
                body.give_back()
                raise
            lines.put(borrowed)
            with self._service.drain.cutting(body.recall):
                await lines.all_done()
            if body.dry or body.recalled or not body.left:
                return not body.left
        return False

    async def _receive(self, lines: Lines[_Handed]) -> bool:
        """Pass on the next piece; return whether there are more.

        Raises:
            ClientDisconnect: the connection was cut in mid-body.
        """
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if piece := message.get("body", b""):
            self._size_bytes += len(piece)
            lines.put(piece)
            await lines.has_room()
        return bool(message.get("more_body", False))

    def _on_done(self, handed: _Handed) -> None:
        if isinstance(handed, _Borrowed):
            handed.body.give_back()
            self._service.pieces.give_back(memoryview(handed.buffer))
            read_bytes = handed.size_bytes - handed.body.left
            self._size_bytes += read_bytes
            self._limit.passed(read_bytes, complete=not handed.body.left)
            self._request.scope.get(PASSED, lambda size_bytes: None)(read_bytes)
            return
        self._service.pieces.give_back(handed)
        if self._cut is not None and (cuts := self._sink.cuts) is not None:
            self._cut(cuts)
            self._cut = None

    def _consumers(self) -> list[tuple[Consumer[Any], CapacityLimiter]]:
        """Return what takes each piece, beside each other."""
        take: Consumer[Any] = self._take
        if self._decoder is not None:
            take = partial(self._take_encoded, self._decoder)
        consumers = [(take, self._service.decoding)]
        if self._digests:
            consumers.append((at_once(self._digests.update), self._service.limiter))
        return consumers

    def _take(self, handed: _Handed) -> Iterator[None]:
        """Pass on a piece, or all pieces that are read from a borrowed body."""
        if isinstance(handed, _Borrowed):
            return self._read(handed)
        self._pass_on(handed)
        return iter(())

    def _read(self, borrowed: _Borrowed) -> Iterator[None]:
        """Pass on what is read, to the end of a batch where that is known; the rest goes on with more."""
        body, room, rest = borrowed.body, memoryview(borrowed.buffer), 0
        enough, n_pieces, goes_on = len(room) // ENOUGH_PARTS, 0, True
        while rest or (body.left and goes_on):
            cuts = self._sink.cuts and (self._sink.cuts[0] - self._passed_bytes, self._sink.cuts[1])
            if goes_on:
                rest += body.fill(room[rest : piece_bytes(cuts, len(room))], max(0, enough - rest))
            n_pieces += 1
            goes_on = body.left > 0 and not body.dry and not body.recalled and self._fits(len(room), n_pieces)
            whole = piece_bytes(cuts, rest) if rest and goes_on else rest
            if whole:
                self._pass_on(room[:whole])
            room[: rest - whole] = room[whole:rest]
            rest -= whole
            yield

    def _fits(self, buffer_bytes: int, n_pieces: int) -> bool:
        """Return whether a buffer is still an upload's share after so many pieces; asked in a thread, so about."""
        share = self._service.pieces.size_bytes
        return share == buffer_bytes or (share > buffer_bytes and n_pieces < PIECES_OF_A_LOAN)

    def _pass_on(self, piece: bytes | memoryview) -> None:
        self._passed_bytes += len(piece)
        self._sink.feed(piece)

    def _take_encoded(self, decoder: ContentDecoder, piece: bytes | memoryview) -> Iterator[None]:
        """Pass on what a piece is decoded to, in steps, so that a body which grows without end holds up no other."""
        decoder.feed(piece)
        while decoded := decoder.take():
            self._pass_on(memoryview(decoded))
            yield

    def _check_end(self) -> None:
        # First what was sent, then what it says: a body that was cut off on the way is told as that.
        self._digests.check()
        if self._decoder is not None and self._size_bytes:
            self._decoder.finish()
        self._limit.check_length()
