"""HTTP/1.1 as uvicorn speaks it by httptools, with what it leaves out: limits on headers, and a close that is heard.

- Headers have a largest size and a longest time; connections have a largest number. Uvicorn's httptools has neither.
- Trailers and chunk extensions have the size of headers too, and are dropped; uvicorn would keep trailers without end.
- A client that takes nothing of its answer for long is cut off; uvicorn would wait for good, also after a close.
- Of requests that are sent ahead of the answers only so many are kept; a packet may hold thousands.
- Bytes that are no HTTP are answered by a problem document too.
- Where an answer ends the connection while the body still comes, the socket is not closed at once: the client would be
  reset and might never read why it was refused. It is half closed, and what comes is dropped for a while.
- A client that sends its request and closes its sending side is answered.
- An Upgrade is not taken up; its request has no body and ends the connection, since the parser loses what follows.
- A body reaches the application in pieces (`app.gathering`), not in packets; one whose length is known is read straight
  into them (`app.receiving`), or lent to the application's own threads (`app.lending`).
"""

import asyncio
import json
import os
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn._types import ASGIReceiveEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.gathering import CUTS, UNREAD_BYTES, Gatherer
from app.headers import SECURITY_HEADERS
from app.lending import LENDING, LentBody
from app.pieces import PiecePool
from app.problems import KINDS, MEDIA_TYPE, problem_document
from app.receiving import BodyReceiver
from app.settings import Settings

LINGER_S = 5.0
"""How long a refused client may go on sending before the connection is cut."""
RETRY_AFTER_S = 1
MOST_AHEAD = 64
"""Requests of a connection that wait for the answer to another one; after these it is closed."""
_SECURITY_LINES = "".join(f"{name.lower()}: {value}\r\n" for name, value in SECURITY_HEADERS.items()).encode()


class LingeringTransport:
    """A transport whose `close` asks the protocol how; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, protocol: "ServiceProtocol") -> None:
        self.inner = transport
        self._protocol = protocol
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, data: bytes) -> None:
        """Send bytes, unless it was closed: what is answered to a client that was cut off goes nowhere."""
        if not self.is_closing():
            self.inner.write(data)

    def is_closing(self) -> bool:
        """Return whether it was closed, lingering or not."""
        return self._closing or self.inner.is_closing()

    def close(self) -> None:
        """Close once what was written is sent; linger while a body still comes."""
        if self._closing:
            return
        self._closing = True
        if self._protocol.expects_more and self.inner.can_write_eof() and not self.inner.is_closing():
            self._protocol.linger()
        else:
            self.inner.close()
        self._protocol.watch_sending()


class ServiceProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        pieces: PiecePool,
        on_refusal: Callable[[str, str], None] = lambda code, request_id: None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._pieces = pieces
        self._on_refusal = on_refusal
        self._body: Gatherer | None = None
        self._body_left = 0
        self._in_head = False
        self._head_bytes = 0
        self._framing_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._lingering = False
        self._refused = False
        self.expects_more = False
        """Whether a request has begun whose end has not come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin, unless there are too many connections."""
        super().connection_made(LingeringTransport(transport, self))  # type: ignore[arg-type]  # acts as one
        if len(self.connections) > self._settings.max_connections:
            detail = (
                f"expected at most {self._settings.max_connections} connections at once; got one more; "
                "try again in a moment, or raise NORMGAUGE_MAX_CONNECTIONS"
            )
            self._refuse("too-many-connections", detail, f"retry-after: {RETRY_AFTER_S}\r\n".encode())
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._stop_head_timer()
        self._stop_send_timer()

    def pause_writing(self) -> None:
        """Let no more be written until the client has taken some of it, which it must."""
        super().pause_writing()
        self.watch_sending()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._stop_send_timer()
        super().resume_writing()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own answer: whether to stay open
        """Stay open for the answer where the request is whole; else it was cut off."""
        cycle = self.cycle
        waits = cycle is not None and not cycle.more_body and not cycle.response_started and not self.expects_more
        if waits and not self._lingering:
            cycle.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        """Take bytes of requests."""
        if self._refused or self._lingering:
            return
        if not self.expects_more:
            self._start_head_timer()
            self._head_bytes = 0
            self._in_head = self.expects_more = True
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data)
        super().data_received(data)
        if self._in_head and not self._refused and self._head_bytes > self._settings.max_header_bytes:
            self._refuse_headers(self._head_bytes)
        elif self.expects_more and not self._refused and self._framing_bytes > self._settings.max_header_bytes:
            self._refuse_headers(self._framing_bytes, "trailers or a chunk extension")
        elif self._body_left > UNREAD_BYTES and self._may_receive():
            self.transport.inner.set_protocol(BodyReceiver(self))  # type: ignore[attr-defined]  # our own

    def on_message_begin(self) -> None:
        """Begin a request; it may come in the same packet as the end of the one before."""
        super().on_message_begin()
        if len(self.pipeline) >= MOST_AHEAD:
            # Those before it are answered; the client sends this one again.
            self._refused = self.expects_more = True  # so that closing lingers
            self.cycle.keep_alive = False
        if self._refused:
            return
        self._start_head_timer()
        self._in_head = self.expects_more = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; trailers are dropped, since what they say would come too late."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer a request, unless its head is too large or names several hosts (RFC 9112, 3.2)."""
        if self._refused:
            return
        self._in_head = False
        self._framing_bytes = 0
        self._stop_head_timer()
        if sum(name == b"host" for name, _ in self.headers) > 1:
            if not self._ends_ahead():
                self.send_400_response("more than one Host")
            return
        upgrade = self.parser.should_upgrade()
        if upgrade and any(_begins_body(*field) for field in self.headers):
            # The parser takes what follows for another protocol, or for another request: never for this one's body.
            if not self._ends_ahead():
                self.send_400_response("a body after Upgrade, which is not taken up here")
            return
        size_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size_bytes > self._settings.max_header_bytes:
            if not self._ends_ahead():
                self._refuse_headers(size_bytes)
            return
        super().on_headers_complete()
        cycle = self.cycle
        if upgrade:
            cycle.keep_alive = False  # for the same reason
        self._body_left = 0 if upgrade else _length_of(self.headers)
        self._body = Gatherer(self._pieces, self.loop, cycle.message_event.set)
        lend = partial(self._lend, self._body)
        self.scope["extensions"] = {CUTS: {"cut": self._body.cut}, LENDING: {"lend": lend}}
        # Before its task has begun, which the event loop does later.
        cycle.receive = partial(self._receive, cycle, self._body)  # type: ignore[method-assign]  # bodies are ours

    def _ends_ahead(self) -> bool:
        """Return whether another request is to be answered before this one; that answer is then the last."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        self._refused = self.expects_more = True
        self.cycle.keep_alive = False
        return True

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: that an Upgrade is not taken up is meant, and any client can ask for one."""

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._framing_bytes = 0
        self._body_left -= len(body)
        if self._refused or self._body is None or self.cycle.response_complete:
            return
        self._body.add(body)
        if self._body.full:
            self.flow.pause_reading()

    def body_room(self) -> memoryview:
        """Return where to read the rest of a body to, if only to drop it."""
        if self._drops_body or self._body is None:
            return memoryview(bytearray(min(self._body_left, UNREAD_BYTES)))
        return self._body.room(self._body_left)

    def body_came(self, size_bytes: int) -> None:
        """Take bytes of a body that were read; after the last one, go on parsing."""
        self._unset_keepalive_if_required()
        self._body_left -= size_bytes
        if self._body is not None and not self._drops_body:
            self._body.came(size_bytes)
            if self._body.full:
                self.flow.pause_reading()
        if not self._body_left:
            self._parse_on()

    def _parse_on(self) -> None:
        """Take what comes after a body that the parser was not shown."""
        # The old one still waits for this body.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.transport.inner.set_protocol(self)  # type: ignore[attr-defined]  # our own
        self.on_message_complete()

    def _lend(self, body: Gatherer) -> LentBody | None:
        """Lend the rest of a request's body, to be given back before anything else is asked of the request.

        None where it cannot be: where its length is not known or little is left, where some is gathered already, where
        the client waits to be told to go on, or the connection is closing.
        """
        inner = self.transport.inner  # type: ignore[attr-defined]  # our own
        receiving = isinstance(inner.get_protocol(), BodyReceiver)
        if self._body is not body or body.begun or not receiving or self._drops_body or inner.is_closing():
            return None
        if self._body_left <= UNREAD_BYTES or self.cycle.waiting_for_100_continue:
            return None
        try:
            # A descriptor of its own: this connection may be closed while a thread still reads.
            descriptor = os.dup(inner.get_extra_info("socket").fileno())
        except OSError:  # there are too many: then it is read as others are
            return None
        self.flow.pause_reading()
        head, left = body.lend(), self._body_left
        return LentBody(descriptor, head, len(head) + left, partial(self._take_back, body))

    def _take_back(self, body: Gatherer, size_bytes: int) -> None:
        """Read on after so many bytes of a body were read by someone else."""
        body.passed(size_bytes)
        self._body_left -= size_bytes
        if self.transport.inner.is_closing():  # type: ignore[attr-defined]  # our own
            return
        self._unset_keepalive_if_required()
        if not self._body_left:
            self._parse_on()
        self.flow.resume_reading()

    @property
    def _drops_body(self) -> bool:
        return self._refused or self._lingering or self.cycle.response_complete

    def _may_receive(self) -> bool:
        """Return whether what comes next may be read without the parser: under uvloop, where that is tested."""
        kind = type(self.transport.inner)  # type: ignore[attr-defined]  # our own
        return not self._drops_body and self.scheme == "http" and kind.__module__.startswith("uvloop.")

    def on_message_complete(self) -> None:
        """End a request."""
        self.expects_more = False
        self._head_bytes = 0
        if self._refused or self._body is None or self.cycle.response_complete:
            return
        self.cycle.more_body = False
        self._body.end()

    async def _receive(self, cycle: RequestResponseCycle, body: Gatherer) -> ASGIReceiveEvent:
        """Return the next ASGI message of a request, as uvicorn's own would but for the size of its body."""
        if cycle.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if not cycle.disconnected and not cycle.response_complete:
            cycle.message_event.clear()  # what it was set for is taken, or it is set again here
            body.want()
            if not body.full:
                self.flow.resume_reading()
            await cycle.message_event.wait()
            cycle.message_event.clear()
        if cycle.disconnected or cycle.response_complete:
            body.close()
            return {"type": "http.disconnect"}
        piece, more = body.take()
        # A view of a buffer, which holds for as long as its receiver keeps it.
        return {"type": "http.request", "body": piece, "more_body": more}  # type: ignore[typeddict-item]

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, after the request before it where that is whole."""
        if self._refused or (self.cycle is not None and not self.cycle.more_body and self._ends_ahead()):
            return
        self._refuse("malformed-http", f"expected an HTTP/1.1 request; {msg.rstrip('.').lower()}: check the client")

    def linger(self) -> None:
        """Send what was written and the end of it; drop what still comes, and close for good a little later."""
        self._lingering = True
        self._stop_head_timer()
        inner = self.transport.inner  # type: ignore[attr-defined]  # our own
        self.flow.resume_reading()
        inner.write_eof()
        self.loop.call_later(LINGER_S, inner.close)

    def watch_sending(self) -> None:
        """Cut the connection where the client takes nothing of what is left to send, for as long as it may."""
        self._stop_send_timer()
        inner = self.transport.inner  # type: ignore[attr-defined]  # our own
        self._unsent_bytes = inner.get_write_buffer_size()
        if self._unsent_bytes:
            self._send_timer = self.loop.call_later(self._settings.send_timeout_s, self._on_send_time)

    def _on_send_time(self) -> None:
        inner = self.transport.inner  # type: ignore[attr-defined]  # our own
        if inner.get_write_buffer_size() < self._unsent_bytes:
            self.watch_sending()
        else:
            inner.abort()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _refuse_headers(self, size_bytes: int, what: str = "a request line and headers") -> None:
        self._refuse(
            "headers-too-large",
            f"expected {what} of at most {self._settings.max_header_bytes} bytes; got at least "
            f"{size_bytes}; send fewer or raise NORMGAUGE_MAX_HEADER_BYTES",
        )

    def _refuse(self, code: str, detail: str, *lines: bytes) -> None:
        """Answer without asking the application, and close."""
        self._refused = True
        self._stop_head_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            # A request whose body turned out malformed: the application gets no more of it, and answers no one.
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            request_id = uuid.uuid4().hex
            self._on_refusal(code, request_id)
            content = json.dumps(problem_document(code, detail, request_id=request_id)).encode()
            head = [
                STATUS_LINE[KINDS[code].status],
                f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\n".encode(),
                f"x-request-id: {request_id}\r\n".encode(),
                _SECURITY_LINES,
                b"connection: close\r\n",
                *lines,
                b"\r\n",
            ]
            self.transport.write(b"".join([*head, content]))
        self.expects_more = True  # whatever it is, more of it may come
        self.transport.close()

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._settings.header_timeout_s, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._refused:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_head_timer()  # the request before it is still being answered
            return
        if not self.expects_more:
            self.transport.close()
            return
        # What came in the packet that ended the request before is not known apart.
        came = f"{self._head_bytes} bytes" if self._head_bytes else "some"
        self._refuse(
            "headers-timeout",
            f"expected the whole head of a request within {self._settings.header_timeout_s:g} s; "
            f"got {came} of it; send it again on a faster connection",
        )


def _length_of(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the Content-Length, which the parser has checked; 0 where there is none."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def _begins_body(name: bytes, value: bytes) -> bool:
    """Return whether a header says that a body follows."""
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
