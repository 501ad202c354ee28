"""The outermost middleware: a request's id, its log line, its metrics, its security headers, and errors no one caught.

It stands outside of all that can answer, so that every answer, a refusal or a failure too, passes through it.
"""

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.draining import UNFINISHED, Drain, going_down
from app.headers import add_security_headers
from app.lending import PASSED
from app.observability.logs import CONTEXT, fields
from app.observability.metrics import Metrics
from app.problems import PROBLEM_KEY, REQUEST_ID_KEY, respond

ID_HEADER = "X-Request-ID"
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Their lines are logged at level debug: they come every few seconds."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_LOGGER = logging.getLogger("normgauge.requests")
_UNSENT = 0


class RequestMiddleware:
    """Gives every request an id and watches what becomes of it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, drain: Drain) -> None:
        self._app = app
        self._metrics = metrics
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application below; answer for it where it fails before it has begun to answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watched = _Watched(scope, receive, send, self._drain)
        scope[REQUEST_ID_KEY] = watched.request_id
        scope[PASSED] = watched.count
        context = CONTEXT.set({**CONTEXT.get(), "request_id": watched.request_id})
        self._metrics.request_began()
        try:
            await self._run(scope, self._drain.bound(watched.receive), watched)
        finally:
            self._report(scope, watched)
            CONTEXT.reset(context)

    async def _run(self, scope: Scope, receive: Receive, watched: "_Watched") -> None:
        try:
            await self._app(scope, receive, watched.send)
        except asyncio.CancelledError:
            # The server cancels what has not ended when it leaves, and then waits for it no longer than for this.
            if watched.status != _UNSENT or not self._drain.begun:
                raise
            await respond(Request(scope), going_down(UNFINISHED))(scope, receive, watched.send)
        except Exception as error:  # whatever it is, the caller gets an answer that says no more than it may
            if watched.status != _UNSENT:
                # Half an answer is out; the server cuts the connection, so that no one takes it for a whole one.
                _LOGGER.exception("failed in mid-answer")
                raise
            await respond(Request(scope), error)(scope, receive, watched.send)

    def _report(self, scope: Scope, watched: "_Watched") -> None:
        route = getattr(scope.get("route"), "path", None)
        seconds = time.perf_counter() - watched.began
        self._metrics.request_ended(method=scope["method"], route=route, status=watched.status, seconds=seconds)
        code = scope.get(PROBLEM_KEY)
        if code is not None:
            self._metrics.problem(code)
        values = {
            "method": scope["method"],
            # What no endpoint took may be anything, a key typed into the address too.
            "path": scope["path"] if route else None,
            "route": route,
            "status": watched.status,
            "duration_ms": round(1000 * seconds, 1),
            "bytes_in": watched.bytes_in,
            "bytes_out": watched.bytes_out,
            "client": scope["client"][0] if scope.get("client") else None,
            "problem": code,
        }
        level = logging.DEBUG if route in PROBES else logging.INFO
        _LOGGER.log(level, "request", extra=fields(**{name: v for name, v in values.items() if v is not None}))


def report_refusal(metrics: Metrics, code: str, request_id: str) -> None:
    """Count and log a problem that was answered to what never became a request: no HTTP, too many connections."""
    metrics.problem(code)
    _LOGGER.info("refused", extra=fields(request_id=request_id, problem=code))


class _Watched:
    """One request: what has come in and gone out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, drain: Drain) -> None:
        self.began = time.perf_counter()
        self.status = _UNSENT
        self.bytes_in = 0
        self.bytes_out = 0
        self.request_id = _accept_id(Headers(scope=scope).get(ID_HEADER))
        self._scheme = scope.get("scheme", "http")
        self._receive = receive
        self._send = send
        self._drain = drain

    def count(self, size_bytes: int) -> None:
        """Count bytes that came in."""
        self.bytes_in += size_bytes

    async def receive(self) -> Message:
        message = await self._receive()
        self.count(len(message.get("body", b"")))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers[ID_HEADER] = self.request_id
            add_security_headers(headers, scheme=self._scheme)
            if self._drain.begun:
                headers["Connection"] = "close"  # the next request goes to an instance that stays
            self.status = message["status"]
        else:
            self.bytes_out += len(message.get("body", b""))
        await self._send(message)


def _accept_id(given: str | None) -> str:
    """Return the id that came with the request, or a new one where it has another form than ours may have."""
    return given if given is not None and _WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
