"""What the operator lets the service read: prefixes, one endpoint, no address of the inside.

The store's endpoint and credentials are the operator's settings; a request names a bucket and a key and nothing else,
so it cannot lead the service to another host. What a URI may look like stands in `assessor.sources.uris`; that links do
not leave a folder and redirects are not followed, in `assessor.sources.stores` and `.backends`.
"""

import ipaddress
import socket

from app.problems import ProblemError
from app.settings import Settings
from assessor.sources import SourceUri, Store, StoreSettings, host_of, open_store


class IngestPolicy:
    """Decides on URIs and opens the stores of those that are allowed.

    Args:
        settings: the prefixes, the endpoint, the credentials.
    """

    def __init__(self, settings: Settings) -> None:
        self._prefixes = [SourceUri.parse(text) for text in settings.ingest_prefixes]
        self._stores: dict[tuple[str, str, str], Store] = {}
        self._settings = StoreSettings(
            endpoint=settings.ingest_endpoint,
            region=settings.ingest_region,
            access_key_id=settings.ingest_access_key_id,
            secret_access_key=settings.ingest_secret_access_key,
            session_token=settings.ingest_session_token,
            anonymous=settings.ingest_anonymous,
        )

    def check(self, text: str) -> SourceUri:
        """Return the URI that a text is, of an object or a pattern.

        Raises:
            ProblemError: nothing is allowed ("ingest-off"), or not this ("source-not-allowed").
            SourceUriError: it is no URI.
        """
        if not self._prefixes:
            raise ProblemError(
                "ingest-off",
                "expected a service whose operator lets it read URIs; this one's has allowed none: let the operator "
                "set NORMGAUGE_INGEST_PREFIXES, or PUT the shards",
            )
        uri = SourceUri.parse(text)
        self._prefix_of(uri)
        return uri

    def open(self, uri: SourceUri) -> Store:
        """Return the store that holds a URI; blocks, since it may ask for an address.

        Raises:
            ProblemError: as `check`; or the endpoint, which the operator did not name, is private ("source-address").
            SettingError: the settings do not go together.
        """
        prefix = self._prefix_of(uri)
        if uri.scheme == "s3" and self._settings.endpoint is None:
            _check_public(self._settings.endpoint_from())
        # A store keeps its connections and credentials: one for all objects of a bucket.
        place = (uri.scheme, uri.container, prefix.key if uri.scheme == "file" else "")
        if place not in self._stores:
            self._stores[place] = open_store(uri, self._settings, root=f"/{prefix.key}")
        return self._stores[place]

    def _prefix_of(self, uri: SourceUri) -> SourceUri:
        for prefix in self._prefixes:
            if uri.is_under(prefix):
                return prefix
        raise ProblemError(
            "source-not-allowed",
            f"expected a URI under a prefix that the operator allowed; got {str(uri)!r:.200}: take one that is, let "
            "the operator add its prefix to NORMGAUGE_INGEST_PREFIXES, or PUT the shard",
        )


def _check_public(endpoint: str) -> None:
    host = host_of(endpoint)
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return  # that it has no address will be said where it is asked
    if any(not ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found):
        raise ProblemError(
            "source-address",
            f"expected a store on a public address; {host} is on a private one: if it is meant, let the operator "
            "name it in NORMGAUGE_INGEST_ENDPOINT",
        )
