"""A middleware that bounds every request: how many at once, how long its body, how slowly that comes.

Every call gets the small limit for JSON; the calls that stream a shard lift it with `allow_body` before they read. So
a new route cannot forget its limit. Limits on what is in a shard are in `app.ingest`, those on headers in
`app.protocol`.
"""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.digests import ContentDigests
from app.encodings import encoding_of
from app.problems import ProblemError, problem_response
from app.settings import Settings

_SCOPE_KEY = "normgauge.body_limit"
_PROBES = frozenset(("/livez", "/readyz", "/metrics"))
"""Answered however many requests there are: they are how one finds out."""
RETRY_AFTER_S = 1


class BodyLimit:
    """The body of one request as it comes in: how much was read, how much may be, how fast it must come."""

    def __init__(self, receive: Receive, headers: Headers, settings: Settings):
        self._receive = receive
        self._headers = headers
        self._settings = settings
        self._max_bytes, self._setting, self._code = settings.max_json_bytes, "MAX_JSON_BYTES", "json-too-large"
        self._declared = _declared_bytes(headers.get("content-length"))
        self._streamed = False
        self._digests: ContentDigests | None = None
        self._size_bytes = 0
        self._complete = False
        self._window_bytes = 0
        self._window_s = 0.0

    def allow(self) -> None:
        """Let the body be as long as a shard, in any encoding: the caller reads it as a stream and checks its digest.

        Raises:
            ProblemError: the Content-Length is over the limit ("body-too-large").
        """
        self._max_bytes, self._setting = self._settings.max_body_bytes, "MAX_BODY_BYTES"
        self._code, self._streamed = "body-too-large", True
        if self._declared is not None:
            self._check(self._declared, "by its Content-Length")

    async def receive(self) -> Message:
        """Return the next ASGI message.

        Raises:
            ProblemError: the body is too long, stops, comes too slowly, or is not what its headers say.
        """
        if self._complete:
            # After the body, only the end of the connection is left to come, whenever it does.
            return await self._receive()
        if not self._streamed:
            self._check_headers()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.body_idle_timeout_s):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(
                "body-timeout",
                f"expected the next bytes of the body within {self._settings.body_idle_timeout_s:g} s; got "
                f"{self._size_bytes} bytes, then nothing; nothing was stored: send it again",
                headers={"Connection": "close"},
            ) from None
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self._size_bytes += len(body)
            self._complete = not message.get("more_body", False)
            self._check(self._size_bytes, "and maybe more")
            self._check_rate(len(body), time.monotonic() - began)
            if not self._streamed:
                self._check_digest(body)
        return message

    def passed(self, size_bytes: int, *, complete: bool) -> None:
        """Count bytes of the body that were read past this one, hardly waiting for any: a lent body's."""
        self._size_bytes += size_bytes
        self._window_bytes += size_bytes
        self._complete = complete

    def check_length(self) -> None:
        """Raise RuntimeError where a body that was read to its end had another length than was announced."""
        if self._declared is not None and self._size_bytes != self._declared:
            raise RuntimeError(f"expected a body of {self._declared} bytes; {self._size_bytes} were passed on")

    @property
    def unread(self) -> bool:
        """Whether the request has a body of which some was not read."""
        return not self._complete and (self._declared != 0 if self._declared is not None else self._chunked)

    @property
    def _chunked(self) -> bool:
        return "transfer-encoding" in self._headers

    def _check(self, size_bytes: int, how_known: str) -> None:
        if size_bytes > self._max_bytes:
            raise ProblemError(
                self._code,
                f"expected a body of at most {self._max_bytes} bytes; got {size_bytes} "
                f"({how_known}); send smaller pieces or raise NORMGAUGE_{self._setting}",
            )

    def _check_rate(self, size_bytes: int, waited_s: float) -> None:
        """Check what came while the service waited; time in which it was busy itself does not count."""
        self._window_bytes += size_bytes
        self._window_s += waited_s
        if self._window_s < self._settings.body_rate_window_s:
            return
        least = self._settings.body_min_bytes_per_s
        if not self._complete and self._window_bytes < least * self._window_s:
            raise ProblemError(
                "slow-upload",
                f"expected at least {least} bytes a second; got {self._window_bytes} bytes in {self._window_s:.1f} s; "
                "nothing was stored: send it again on a faster connection, or compressed",
                headers={"Connection": "close"},
            )
        self._window_bytes, self._window_s = 0, 0.0

    def _check_headers(self) -> None:
        """Check what only a shard may have, and begin the digest."""
        if self._declared is not None:
            self._check(self._declared, "by its Content-Length")
        if encoding_of(self._headers.getlist("content-encoding")) is not None:
            raise ProblemError(
                "unsupported-encoding",
                f"expected a body without Content-Encoding here; got {self._headers['content-encoding']!r:.80}; only "
                "shards may come compressed",
                headers={"Accept-Encoding": "identity"},
            )
        if self._digests is None:
            self._digests = ContentDigests(self._headers.getlist("content-digest"))

    def _check_digest(self, body: bytes) -> None:
        if self._digests:
            self._digests.update(body)
            if self._complete:
                self._digests.check()


class LimitMiddleware:
    """Bounds requests at once, and every body by `max_json_bytes` until the endpoint allows more."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application below with a bounded `receive`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] not in _PROBES and self._running >= self._settings.max_requests:
            await self._refuse(scope, receive, send)
            return
        limit = BodyLimit(receive, Headers(scope=scope), self._settings)
        scope[_SCOPE_KEY] = limit

        async def send_closing(message: Message) -> None:
            # What is left of a body that was refused is not worth waiting for: the connection ends with the answer.
            if message["type"] == "http.response.start" and limit.unread:
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            await send(message)

        self._running += 1
        try:
            await self._app(scope, limit.receive, send_closing)
        finally:
            self._running -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = (
            f"expected at most {self._settings.max_requests} requests at once; got one more; "
            "send it again in a moment, or raise NORMGAUGE_MAX_REQUESTS"
        )
        headers = {"Retry-After": str(RETRY_AFTER_S), "Connection": "close"}
        response = problem_response(Request(scope), "too-many-requests-at-once", detail, headers=headers)
        await response(scope, receive, send)


def allow_body(request: Request) -> BodyLimit:
    """Let this request's body be as long as a shard; return its limit.

    Raises:
        ProblemError: its Content-Length says that it is longer ("body-too-large").
    """
    limit = request.scope[_SCOPE_KEY]
    assert isinstance(limit, BodyLimit)
    limit.allow()
    return limit


def _declared_bytes(content_length: str | None) -> int | None:
    plain = content_length is not None and content_length.isascii() and content_length.isdigit()
    return int(content_length) if content_length is not None and plain else None
