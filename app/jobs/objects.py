"""The bytes of an object as those of a shard: decompressed where its name says that it is."""

from collections.abc import Callable, Iterator

from app.encodings import ContentDecoder
from assessor.formats.recognize import TEXT_SUFFIXES
from assessor.sources import Source, SourceUri, Store, read_range

ENCODINGS = {".gz": "gzip", ".zst": "zstd"}
"""Content-Encoding by the end of an object's name."""


def decoded_pieces(
    store: Store, source: Source, max_decoded_bytes: int, came: Callable[[int], None]
) -> Iterator[bytes | memoryview]:
    """Yield an object's bytes, decompressed where its name says that it is.

    Args:
        store: that holds it.
        source: the object as it was found.
        max_decoded_bytes: most that it may grow to.
        came: called with the number of bytes that have come, also with 0, as often as there is something to do.

    Raises:
        SourceError: it cannot be read. ProblemError: it is not what its name says, or grows too large.
    """
    name = encoding_of_name(source.uri)
    decoder = name and ContentDecoder(name, max_decoded_bytes=max_decoded_bytes)
    for piece in read_range(store, source, 0, source.size_bytes):
        came(len(piece))
        if not decoder:
            yield piece
            continue
        decoder.feed(piece)
        while decoded := decoder.take():
            came(0)
            yield decoded
    if decoder:
        decoder.finish()


def encoding_of_name(uri: SourceUri) -> str | None:
    """Return how an object is compressed, by the end of its name."""
    return ENCODINGS.get(_last_suffix(uri))


def format_of_name(uri: SourceUri) -> str | None:
    """Return the format of text, by the end of an object's name before that of its compression; else None."""
    last = _last_suffix(uri)
    if last in ENCODINGS:
        last = _last_suffix(SourceUri(uri.scheme, uri.container, uri.key[: -len(last)]))
    return TEXT_SUFFIXES.get(last)


def _last_suffix(uri: SourceUri) -> str:
    stem, dot, end = uri.name.rpartition(".")
    return f".{end.lower()}" if dot and stem else ""
