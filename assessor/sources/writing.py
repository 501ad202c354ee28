"""Objects written to a store: whole or not at all."""

from pathlib import Path

from assessor.errors import SourceDeniedError, SourceUriError
from assessor.sources.backends import make_s3, translated
from assessor.sources.settings import StoreSettings
from assessor.sources.uris import SourceUri


def parse_target(text: str) -> SourceUri:
    """Return the address of an object to write.

    Raises:
        SourceUriError: it is no object of a bucket.
    """
    uri = SourceUri.parse(text)
    if uri.scheme != "s3" or not uri.key or text.endswith("/"):
        raise SourceUriError(f"expected s3://bucket/key to write to; got {text}: write files by their path")
    return uri


def check_reachable(uri: SourceUri, settings: StoreSettings) -> None:
    """Check that the bucket of an object to write is there and answers, by one request for a list of its folder.

    Credentials that are good and may not list (AccessDenied) may be allowed to write all the same, so they pass.

    Args:
        uri: of the object, in a bucket.
        settings: how object stores are reached.

    Raises:
        SourceError: there is no such bucket, it does not answer, or refuses the credentials.
        SettingError: obstore is not installed, or the settings do not go together.
    """
    folder = uri.key.rpartition("/")[0]
    try:
        with translated(str(uri), settings.endpoint_from(), to="write"):
            next(iter(make_s3(uri.container, settings).list(folder or None, chunk_size=1)), None)
    except SourceDeniedError as error:
        if "<Code>AccessDenied</Code>" not in str(error.__cause__):
            raise


def write_object(uri: SourceUri, body: bytes | Path, settings: StoreSettings) -> None:
    """Write an object, in place of one that may be there.

    Args:
        uri: of the object, in a bucket; see `parse_target`.
        body: its bytes, or the file that holds them; a large one is sent in parts.
        settings: how object stores are reached.

    Raises:
        SourceError: the store does not take it.
    """
    with translated(str(uri), settings.endpoint_from(), to="write"):
        make_s3(uri.container, settings).put(uri.key, body)
