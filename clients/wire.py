"""Between the clients' own requests and responses and httpx's: what both clients share."""

import math
from typing import Any

import httpx
import numpy as np

from clients.calls import Request, Response
from clients.compression import AUTO, Sending
from clients.retry import Backoff

_CONNECT_TIMEOUT_S = 10.0


def client_options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the arguments of httpx.Client and httpx.AsyncClient.

    A user name and password in the URL are sent as basic authentication, unless there is a key. httpx logs the URL of
    every request, so they stay out of it.

    Raises:
        ValueError: a URL with a query or fragment, which no path can follow; a key that no header can hold; a time
            that is no number of seconds above 0.
    """
    url = httpx.URL(base_url)
    if url.query or url.fragment:
        raise ValueError(f"expected a URL that ends in a path; got {shown_url(base_url)} with a query or fragment")
    options: dict[str, Any] = {"base_url": url.copy_with(userinfo=b"")}
    if api_key is not None:
        if not isinstance(api_key, str) or not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
            # the value stays out of the message
            raise ValueError("expected an API key of printable ASCII characters; got another text")
        options["headers"] = {"Authorization": f"Bearer {api_key}"}
    elif url.userinfo:
        options["auth"] = httpx.BasicAuth(url.username, url.password)
    if (
        isinstance(timeout_s, bool)
        or not isinstance(timeout_s, int | float | np.number)
        or not 0 < timeout_s < math.inf
    ):
        raise ValueError(f"expected timeout_s to be a number of seconds above 0; got {timeout_s!r}")
    return options | {"timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))}


def sending_to(base_url: str, compress: str | None, content_digest: bool) -> Sending:
    """Return how shards are sent to a service; on this machine "auto" compresses none, since no network is slower."""
    sending = Sending(compress, content_digest)
    host = httpx.URL(base_url).host
    near = host in ("localhost", "::1") or host.startswith("127.")
    return Sending(None, content_digest) if near and compress == AUTO else sending


def shown_url(base_url: str) -> str:
    """Return the URL for messages: without user name, password and query.

    >>> shown_url("https://user:secret@example.org/normgauge/?key=1")
    'https://example.org/normgauge'

    Raises:
        ValueError: not an http or https URL with a host.
    """
    advice = 'expected the service\'s URL, as in "http://127.0.0.1:8000"'
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise ValueError(f"{advice}; got something that is none") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{advice}; got scheme {url.scheme!r}, host {url.host!r}")
    port = "" if url.port is None else f":{url.port}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def as_backoff(retries: int | Backoff) -> Backoff:
    """Return the delays that a number of retries, or a Backoff, stands for."""
    return retries if isinstance(retries, Backoff) else Backoff(retries=retries)


def request_arguments(request: Request) -> dict[str, Any]:
    """Return the arguments of `httpx.Client.request` but for the body."""
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "headers": request.headers,
    }


def as_response(answer: httpx.Response) -> Response:
    """Return what came back."""
    return Response(answer.status_code, answer.content, _seconds(answer.headers.get("retry-after")))


def as_failure(error: httpx.RequestError) -> Response:
    """Return the failure to get an answer."""
    text = str(error)
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return Response(0, failure=f"{type(error).__name__}{': ' + text if text else ''}", unsent=unsent)


def _seconds(retry_after: str | None) -> float | None:
    # the other form, a date, is left to the backoff
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
