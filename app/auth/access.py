"""The middleware that asks every call, but for a few paths, who it is, and counts its calls.

It stands before all endpoints and lets through what is listed here, so a new endpoint cannot forget to ask.
"""

import ipaddress
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.keys import CHALLENGE, Keys
from app.auth.rates import RateLimiter, address_of
from app.problems import ProblemError, respond
from app.settings import Settings

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/metrics", "/openapi.json"})
OPEN_FOLDER = "/problems/"
"""What needs no key: the interface's description, and what looks after the process; nothing of anyone's data."""

_SCOPE_KEY = "normgauge.caller"
_THREADS = 4


@dataclass(frozen=True)
class Caller:
    """Who is calling: the id of a key; None: there are no keys."""

    key_id: str | None


class AccessMiddleware:
    """Lets a call in with a valid key; without one only where no key was ever made and no stranger can come."""

    def __init__(self, app: ASGIApp, *, keys: Keys, rates: RateLimiter, settings: Settings) -> None:
        self._app = app
        self._keys = keys
        self._rates = rates
        self._rates_of_strangers = settings.allow_anonymous
        self._anonymous = not settings.require_keys and (settings.allow_anonymous or is_loopback(settings.host))
        self._any_host = settings.allow_anonymous
        # Its own threads: those that profile shards may all be busy.
        self._limiter = CapacityLimiter(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application below for who may call it; answer with a problem document otherwise."""
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                scope[_SCOPE_KEY] = await self._admit(scope)
            except Exception as error:  # whatever it is: no call goes on without an answer to who it is
                await respond(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Caller:
        address = address_of(scope["client"][0] if scope.get("client") else None)
        try:
            caller = await to_thread.run_sync(self._identify, Headers(scope=scope), limiter=self._limiter)
        except ProblemError:
            await self._rates.check(address)  # so that no one asks without end
            raise
        if caller.key_id is not None:
            await self._rates.check(f"key {caller.key_id}")
        elif self._rates_of_strangers:
            await self._rates.check(address)
        return caller

    def _identify(self, headers: Headers) -> Caller:
        """Return who calls; blocks.

        Raises:
            ProblemError: no key, or none that may be used ("unauthenticated").
        """
        given = headers.getlist("authorization")
        if given:
            scheme, _, text = given[0].strip().partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer":
                raise _unauthenticated("got another kind of credentials")
            return Caller(self._keys.check(text.strip()).id)
        if self._keys.exist():
            raise _unauthenticated("got none")
        if not self._anonymous:
            raise _unauthenticated("got none, and the service has no key yet: normgauge keys create NAME makes one")
        host = headers.get("host", "localhost")
        if not self._any_host and not is_loopback(host_name(host)):
            # A page of a stranger's site, whose name was made to lead here: the browser says that name.
            raise _unauthenticated(f"got none, and Host {host!r:.80}: without a key, call localhost or 127.0.0.1")
        return Caller(None)


def host_name(host: str) -> str:
    """Return a Host header without its port.

    >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("::1"), host_name("evil.example")
    ('localhost', '::1', '::1', 'evil.example')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def caller_of(request: Request) -> Caller:
    """Return who makes a request, as the middleware found; on an open path, no one."""
    caller = request.scope.get(_SCOPE_KEY, Caller(None))
    assert isinstance(caller, Caller)
    return caller


def is_open(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("LocalHost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unauthenticated(came: str) -> ProblemError:
    return ProblemError(
        "unauthenticated",
        f"expected an API key in the header Authorization: Bearer ng_...; {came}; ask the operator for a key",
        headers={"WWW-Authenticate": CHALLENGE},
    )
