"""A middleware that bounds every request body, in bytes and in the time between two pieces.

Every call gets the small limit for JSON; the calls that stream a shard lift it with `allow_body` before they read. So
a new route cannot forget its limit.
"""

import anyio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import ProblemError
from app.settings import Settings

_SCOPE_KEY = "normgauge.body_limit"


class BodyLimit:
    """The body of one request as it comes in: how much was read, how much may be."""

    def __init__(self, receive: Receive, *, max_bytes: int, setting: str, idle_timeout_s: float):
        self._receive = receive
        self._max_bytes = max_bytes
        self._setting = setting
        self._idle_timeout_s = idle_timeout_s
        self._declared: int | None = None
        self._size_bytes = 0
        self._complete = False

    def declare(self, content_length: str | None) -> None:
        """Remember the Content-Length, so that a body too large is refused before it is read."""
        if content_length is not None and content_length.isascii() and content_length.isdigit():
            self._declared = int(content_length)

    def allow(self, max_bytes: int, setting: str) -> None:
        """Set another limit and the setting to name when it is exceeded.

        Raises:
            ProblemError: the Content-Length is over it ("too-large").
        """
        self._max_bytes, self._setting = max_bytes, setting
        if self._declared is not None:
            self._check(self._declared, "by its Content-Length")

    async def receive(self) -> Message:
        """Return the next ASGI message.

        Raises:
            ProblemError: "too-large" or "body-timeout".
        """
        if self._declared is not None:
            self._check(self._declared, "by its Content-Length")
        try:
            # After the body, only the end of the connection is left to come, whenever it does.
            with anyio.fail_after(None if self._complete else self._idle_timeout_s):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(
                "body-timeout",
                f"expected the next bytes of the body within {self._idle_timeout_s:g} s; got "
                f"{self._size_bytes} bytes, then nothing; nothing was stored: send it again",
            ) from None
        if message["type"] == "http.request":
            self._size_bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            self._check(self._size_bytes, "and maybe more")
        return message

    def _check(self, size_bytes: int, how_known: str) -> None:
        if size_bytes > self._max_bytes:
            raise ProblemError(
                "too-large",
                f"expected a body of at most {self._max_bytes} bytes; got {size_bytes} "
                f"({how_known}); send smaller pieces or raise NORMGAUGE_{self._setting}",
            )


class BodyLimitMiddleware:
    """Bounds every body by `max_json_bytes` until the endpoint allows more."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application below with a bounded `receive`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = BodyLimit(
            receive,
            max_bytes=self._settings.max_json_bytes,
            setting="MAX_JSON_BYTES",
            idle_timeout_s=self._settings.body_idle_timeout_s,
        )
        limit.declare(Headers(scope=scope).get("content-length"))
        scope[_SCOPE_KEY] = limit
        await self._app(scope, limit.receive, send)


def allow_body(request: Request, max_bytes: int, setting: str) -> None:
    """Let this request's body be up to `max_bytes` long.

    Raises:
        ProblemError: its Content-Length says that it is longer ("too-large").
    """
    limit = request.scope[_SCOPE_KEY]
    assert isinstance(limit, BodyLimit)
    limit.allow(max_bytes, setting)
