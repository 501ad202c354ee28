"""Between the clients' own requests and responses and httpx's: what both clients share."""

from typing import Any

import httpx

from clients.calls import Request, Response
from clients.retry import Backoff

_CONNECT_TIMEOUT_S = 10.0


def client_options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the arguments of httpx.Client and httpx.AsyncClient.

    Raises:
        ValueError: a URL that is not http or https, or a key that no header can hold.
    """
    headers = {}
    url = httpx.URL(base_url)
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
            # the value stays out of the message
            raise ValueError("expected an API key of printable ASCII characters; got another text")
        headers["Authorization"] = f"Bearer {api_key}"
        url = url.copy_with(userinfo=b"")  # httpx would send a user name in the URL instead of the key
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
    return {"base_url": url, "headers": headers, "timeout": timeout}


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


def as_failure(error: httpx.TransportError) -> Response:
    """Return the failure to get an answer."""
    text = str(error)
    return Response(0, failure=f"{type(error).__name__}{': ' + text if text else ''}")


def _seconds(retry_after: str | None) -> float | None:
    # the other form, a date, is left to the backoff
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
