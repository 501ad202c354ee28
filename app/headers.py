"""The headers that every answer carries, whatever made it: what a browser may do with it, and that no one stores it."""

from starlette.datastructures import MutableHeaders

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Answers are for one client, and most change with the next shard.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
"""Set where the endpoint has not set its own."""

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of our pages: they show themselves, have no scripts and load nothing."""

_TRANSPORT = "max-age=31536000"


def add_security_headers(headers: MutableHeaders, *, scheme: str) -> None:
    """Add what is not set yet; where the client came by HTTPS, also that it stays with HTTPS."""
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    if scheme == "https":
        headers.setdefault("Strict-Transport-Security", _TRANSPORT)
