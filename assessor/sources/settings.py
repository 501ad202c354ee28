"""How object stores are reached: whose endpoint, with which credentials, how patiently."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from assessor.errors import SettingError

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True)
class StoreSettings:
    """How to reach S3-compatible stores; what is None comes from the environment, as for other programs (AWS_*).

    Attributes:
        endpoint: URL of the store, such as "https://minio.example.org:9000"; None: AWS_ENDPOINT_URL_S3,
            AWS_ENDPOINT_URL, or Amazon's own for the region.
        region: None: AWS_REGION, AWS_DEFAULT_REGION, or us-east-1.
        access_key_id, secret_access_key, session_token: None: the environment, a web identity, the container's or the
            machine's role, in this order.
        anonymous: send no credentials, for public buckets.
        connect_timeout_s, read_timeout_s: longest wait for a connection, and for the next bytes.
        retries: how often a request that failed is sent again; a read goes on where it was cut.
    """

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    anonymous: bool = False
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    retries: int = 4

    def __post_init__(self) -> None:
        """Check the endpoint.

        Raises:
            SettingError: it is no http or https URL, or carries a password.
        """
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)

    def region_from(self, environ: Mapping[str, str] = os.environ) -> str:
        """Return the region in use."""
        return self.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"

    def endpoint_from(self, environ: Mapping[str, str] = os.environ) -> str:
        """Return the endpoint in use.

        Raises:
            SettingError: that of the environment is no http or https URL.

        >>> StoreSettings(region="eu-west-1").endpoint_from({})
        'https://s3.eu-west-1.amazonaws.com'
        """
        if self.endpoint is not None:
            return self.endpoint.rstrip("/")
        for name in _ENDPOINT_VARIABLES:
            if environ.get(name):
                _check_endpoint(environ[name])
                return environ[name].rstrip("/")
        return f"https://s3.{self.region_from(environ)}.amazonaws.com"

    @property
    def has_keys(self) -> bool:
        """Whether requests need no credentials from a role."""
        return self.anonymous or self.access_key_id is not None or bool(os.environ.get("AWS_ACCESS_KEY_ID"))


def host_of(endpoint: str) -> str:
    """Return the host of an endpoint's URL.

    >>> host_of("http://[::1]:9000")
    '::1'
    """
    return urlsplit(endpoint).hostname or ""


def _check_endpoint(endpoint: str) -> None:
    advice = "write it as in https://minio.example.org:9000"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise SettingError(
            f"expected an http or https URL as the store's endpoint; got something else: {advice}"
        ) from None
    if not usable or parts.username is not None or parts.query or parts.fragment:
        # The value stays out of the message: it may hold a password.
        raise SettingError(
            f"expected an http or https URL with a host and without user, query and fragment as the store's endpoint; "
            f"got scheme {parts.scheme!r:.20}, host {parts.hostname!r:.80}: {advice}"
        )
