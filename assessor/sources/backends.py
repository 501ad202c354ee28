"""The one place that knows obstore: stores are made here, and its errors become ours."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from assessor.errors import (
    SettingError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceRedirectError,
    SourceUnavailableError,
    SourceUriError,
)
from assessor.sources.settings import StoreSettings, host_of

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

NOWHERE = "127.0.0.1:0"
"""Where no one can listen. It stands as the proxy for all hosts but the store's own, so a redirect ends there."""

_KEY_IN_ERROR = re.compile(r'path: "((?:[^"\\]|\\.)*)"')
_STATUS = re.compile(r"status code: (\d{3})")
"""As obstore tells what a store answered to a list, of which it makes no error of its kind."""
_CONTAINER_ADDRESS = "169.254.170.2"
_MACHINE_ADDRESS = "169.254.169.254"


def make_s3(bucket: str, settings: StoreSettings) -> "S3Store":
    """Return a bucket's store; nothing is sent yet.

    A redirect to another host is never followed, nor one from https to http.

    Raises:
        SettingError: obstore is not installed; or credentials of a role with an endpoint without TLS.
    """
    endpoint = settings.endpoint_from()
    plain = urlsplit(endpoint).scheme == "http"
    excludes = [host_of(endpoint)]
    if not settings.has_keys:
        if plain:
            raise SettingError(
                f"expected keys for the store at {endpoint}, since those of a role are not asked for without TLS; got "
                "none: give access_key_id and secret_access_key, or anonymous"
            )
        excludes += _role_hosts(settings)
    options: dict[str, Any] = {
        "aws_endpoint_url_s3": endpoint,
        "region": settings.region_from(),
        "skip_signature": settings.anonymous,
        "virtual_hosted_style_request": False,
        "client_options": {
            "allow_http": plain,
            "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
            "read_timeout": timedelta(seconds=settings.read_timeout_s),
            "timeout": timedelta(days=7),  # of a whole request: an object may be as large as it likes
            "proxy_url": f"http://{NOWHERE}",
            "proxy_excludes": ",".join(filter(None, excludes)),
        },
        "retry_config": {
            "max_retries": settings.retries,
            "retry_timeout": timedelta(seconds=max(60.0, 2 * settings.read_timeout_s)),
        },
    }
    for name in ("access_key_id", "secret_access_key", "session_token"):
        value = getattr(settings, name)
        if value is not None:
            options[name] = value
    store = _library().store
    return store.S3Store(bucket, **options)  # type: ignore[no-any-return]  # obstore is imported lazily


def make_local() -> "LocalStore":
    """Return the store of this machine's files, from its root.

    Raises:
        SettingError: obstore is not installed.
    """
    return _library().store.LocalStore()  # type: ignore[no-any-return]  # obstore is imported lazily


@contextmanager
def translated(what: str, endpoint: str | None, *, to: str = "read") -> Iterator[None]:
    """Raise obstore's errors in the block as ours, without addresses, paths and headers of the inside.

    Args:
        what: the object's URI.
        endpoint: of its store; None for files.
        to: what is done with it, "read" or "write".

    Raises:
        SourceError: the kind that fits.
    """
    errors = _library().exceptions
    try:
        yield
    except FileNotFoundError as error:
        raise _missing(what, to) from error
    except (errors.PermissionDeniedError, errors.UnauthenticatedError, PermissionError) as error:
        raise _denied(what, to) from error
    except errors.InvalidPathError as error:
        found = _KEY_IN_ERROR.search(str(error))
        key = found[1] if found else "another"
        raise SourceUriError(
            f"expected keys without empty parts, . and .., and control characters below {what}; got "
            f"'{key:.200}': rename that object, or name the others in a manifest"
        ) from error
    except (errors.BaseError, OSError) as error:
        raise _failure(what, endpoint, str(error), to) from error


def _missing(what: str, to: str) -> SourceError:
    if to == "write":
        return SourceNotFoundError(f"expected a bucket for {what}; there is none: check its name, or make it")
    return SourceNotFoundError(
        f"expected an object at {what}; there is none: check bucket and key, and that the upload has ended"
    )


def _denied(what: str, to: str) -> SourceError:
    return SourceDeniedError(
        f"expected to be allowed to {to} {what}; the store refused: check the credentials and their rights"
    )


def _failure(what: str, endpoint: str | None, text: str, to: str) -> SourceError:
    status = _STATUS.search(text)
    if status is not None and status[1] in ("401", "403"):
        return _denied(what, to)
    if status is not None and status[1] == "404":
        return _missing(what, to)
    if NOWHERE in text or "invalid scheme" in text or "URL scheme is not allowed" in text:
        return SourceRedirectError(
            f"expected the object {what} from its own store; the store sends on to another host, which is not "
            "followed: give the endpoint at which the object lies, with its region"
        )
    where = "" if endpoint is None else f" at {endpoint}"
    known = "" if endpoint is None or _resolves(host_of(endpoint)) else ", whose name is not known,"
    verb = "take" if to == "write" else "give"
    return SourceUnavailableError(
        f"expected the store{where}{known} to {verb} {what}; it does not answer, or cut the answer off: try again, "
        "and check the endpoint if this goes on"
    )


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _role_hosts(settings: StoreSettings) -> list[str]:
    """Return the hosts that give a role's credentials: of the way that obstore will take, no other."""
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return [f"sts.{settings.region_from()}.amazonaws.com", host_of(os.environ.get("AWS_ENDPOINT_URL_STS", ""))]
    if os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return [host_of(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])]
    if os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return [_CONTAINER_ADDRESS]
    return [_MACHINE_ADDRESS]


def _library() -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ModuleNotFoundError as error:
        raise SettingError(
            "expected obstore, which reads object stores; it is not installed: run pip install 'normgauge[stores]'"
        ) from error
    return obstore
