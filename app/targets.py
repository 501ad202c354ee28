"""What a run is to write, checked before it reads: no source, now or the next time, and where it can be written."""

from collections.abc import Iterable, Sequence
from itertools import product

from app.errors import CommandError
from assessor.execution import real_uris, stands_for
from assessor.sources import SourceUri, StoreSettings
from assessor.sources.writing import check_reachable, parse_target


def is_uri(name: str) -> bool:
    """Return whether what is to be written has a URI, not a path."""
    return "://" in name


def check_places(names: Iterable[str], places: Sequence[str]) -> None:
    """Check that the sources as they are named stand for nothing that is to be written: it would be read the next time.

    Raises:
        CommandError: names both.
    """
    for name, place in product(names, places):
        if stands_for(place, name):
            raise CommandError(
                f"expected another file to write to than those that are read; got {name}, which is read with {place}: "
                "save it elsewhere, or name the sources by a pattern that leaves it out"
            )


def check_found(names: Iterable[str], places: Iterable[str]) -> None:
    """Check that none of the objects that were found is to be written, whatever a manifest or a link calls it.

    Raises:
        CommandError: names the object.
    """
    written = {uri: name for name in names for uri in real_uris(name)}
    if not written:
        return
    for place in places:
        for uri in real_uris(place):
            if uri in written:
                raise CommandError(
                    f"expected another file to write to than those that are read; got {written[uri]}, which is one of "
                    "the sources: rename it"
                )


def check_stores(names: Iterable[str]) -> None:
    """Check that objects to be written have names that a store takes, and that it answers: one request a folder.

    Raises:
        SourceUriError: a name is none of an object in a bucket. SourceError: the store does not answer, or refuses.
        SettingError: the store's settings do not go together.
    """
    targets = [parse_target(name) for name in names if is_uri(name)]
    folders = {SourceUri(uri.scheme, uri.container, uri.key.rpartition("/")[0]): uri for uri in targets}
    for uri in folders.values():
        check_reachable(uri, StoreSettings())
