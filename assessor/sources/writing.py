"""Objects written to a store: whole or not at all."""

from pathlib import Path

from assessor.errors import SourceUriError
from assessor.sources.backends import make_s3, translated
from assessor.sources.settings import StoreSettings
from assessor.sources.uris import SourceUri


def write_object(uri: SourceUri, body: bytes | Path, settings: StoreSettings) -> None:
    """Write an object, in place of one that may be there.

    Args:
        uri: of the object, in a bucket.
        body: its bytes, or the file that holds them; a large one is sent in parts.
        settings: how object stores are reached.

    Raises:
        SourceUriError: it is no object of a bucket. SourceError: the store does not take it.
    """
    if uri.scheme != "s3" or not uri.key:
        raise SourceUriError(f"expected s3://bucket/key to write to; got {uri}: write files by their path")
    with translated(str(uri), settings.endpoint_from()):
        make_s3(uri.container, settings).put(uri.key, body)
