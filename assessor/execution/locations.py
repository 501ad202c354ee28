"""Which objects form a dataset, and in which order: URIs, paths, patterns, folders and manifests.

The order is the dataset's row order: places in the order given; what a pattern or a folder stands for, sorted by the
characters of its keys; a manifest's lines as they stand.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from assessor.errors import (
    FormatError,
    SettingError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnavailableError,
    SourceUriError,
)
from assessor.execution.retrying import in_rounds
from assessor.sources.globs import base_of, is_pattern, matches
from assessor.sources.settings import StoreSettings
from assessor.sources.stores import LONGEST_LIST, Refuse, Source, Store, find_pattern, open_store, raise_error
from assessor.sources.uris import SCHEMES, SourceUri, check_path

MANIFEST_MARK = "@"
"""A place that begins so is a manifest."""
MAX_MANIFEST_BYTES = 1 << 30
MOST_ROWS = 1 << 33
"""Of one object of a manifest; a profile holds 8 bytes of each."""
FOUND_AT_A_TIME = 32
"""Objects of a manifest that are asked for at a time: each costs a round trip."""

StoreOf = Callable[[SourceUri], Store]


@dataclass(frozen=True)
class Listed:
    """An object of a dataset.

    Attributes:
        source: as it was found.
        rows: how many it has, where that is known.
        error: why it was not found, where that is no error yet; its size is then not known.
    """

    source: Source
    rows: int | None = None
    error: SourceError | None = None


def is_remote(place: str) -> bool:
    """Return whether a place is a URI, not a path.

    >>> is_remote("s3://data/x.npy"), is_remote("data/x.npy")
    (True, False)
    """
    return place.partition("://")[0] in SCHEMES and "://" in place


def find_sources(
    places: Sequence[str | os.PathLike[str] | Listed], stores: StoreSettings, *, skip: bool = False
) -> list[Listed]:
    """Return the objects of a dataset, in row order.

    Args:
        places: each a URI or path of an object; a pattern (`s3://data/digits/part-*.npy`); a folder, with a slash at
            its end, for all objects below it; or `@` and the URI or path of a manifest: a JSON object a line, with
            "uri" (or a path from the manifest's folder), and optionally "rows". What is `Listed` already stays so.
        stores: how object stores are reached.
        skip: a manifest's objects that are not there, and what lies in a folder and cannot be read by its name, are
            listed with their error instead of raising it.

    Raises:
        SourceError: a place holds nothing, or cannot be read. FormatError: a manifest is malformed.
        SettingError: an object comes twice, or no place is given.
    """
    found: list[Listed] = []
    opened: dict[tuple[str, str], Store] = {}

    def store_of(uri: SourceUri) -> Store:
        key = (uri.scheme, uri.container)
        if key not in opened:
            opened[key] = open_store(uri, stores)
        return opened[key]

    for place in places:
        if isinstance(place, Listed):
            found.append(place)
            continue
        text = os.fspath(place)
        if text.startswith(MANIFEST_MARK):
            uri, _ = to_uri(text.removeprefix(MANIFEST_MARK))
            found.extend(_find_all(_read_manifest(uri, store_of), store_of, skip=skip))
        else:
            found.extend(_expand(text, store_of, skip=skip))
    if not found:
        raise SettingError("expected at least one source; got none: name objects, a pattern or a manifest")
    _check_once(found)
    return found


def to_uri(place: str) -> tuple[SourceUri, bool]:
    """Return the URI that a place is, and whether it stands for all objects below it.

    Raises:
        SourceUriError: it is none that can be read.
    """
    if is_remote(place):
        return SourceUri.parse(place), place.endswith("/")
    if "://" in place:
        raise SourceUriError(f"expected a path, or a URI that begins with s3:// or file://; got {place!r:.100}")
    uri = _of_path(place)
    check_path(uri)
    return uri, _is_folder(place)


def stands_for(place: str, target: str) -> bool:
    """Return whether a place is an object, or would find it if it were there: below a folder, or by a pattern.

    Links are followed; a manifest is itself, not what its lines name.

    Args:
        place: see `find_sources`.
        target: URI or path of the object, which need not exist.

    Raises:
        SourceUriError: one of them is a URI that names nothing.

    >>> stands_for("s3://data/d/", "s3://data/d/plan.arrow"), stands_for("s3://data/d/*.npy", "s3://data/d/plan.arrow")
    (True, False)
    """
    text = place.removeprefix(MANIFEST_MARK)
    uri = SourceUri.parse(text) if is_remote(text) else _of_path(text)
    targets = real_uris(target)
    if text == place and _is_folder(place):
        base, pattern = uri, "**"
    elif not targets.isdisjoint(real_uris(text)):
        return True
    elif text == place and _is_open(uri):
        base = base_of(uri)
        pattern = "/".join(uri.segments[len(base.segments) :])
    else:
        return False
    top = _real(base)
    return any(found.is_under(top) and _finds(found, top, pattern) for found in targets)


def real_uris(place: str) -> set[SourceUri]:
    """Return the addresses of a URI or path, links followed: of where it leads, and of a link itself."""
    uri = SourceUri.parse(place) if is_remote(place) else _of_path(place)
    if uri.scheme != "file":
        return {uri}
    folder, _, name = uri.key.rpartition("/")
    return {_real(uri), _of_path(os.path.join(os.path.realpath(f"/{folder}"), name))}


def _of_path(path: str) -> SourceUri:
    return SourceUri("file", "", os.path.abspath(path).lstrip("/"))


def _real(uri: SourceUri) -> SourceUri:
    return _of_path(os.path.realpath(f"/{uri.key}")) if uri.scheme == "file" else uri


def _is_folder(place: str) -> bool:
    return place.endswith("/") or (not is_remote(place) and os.path.isdir(place))


def _is_open(uri: SourceUri) -> bool:
    """Return whether an address is a pattern; a file may have a name that looks like one."""
    return is_pattern(uri.key) and not (uri.scheme == "file" and Path("/", uri.key).exists())


def _finds(uri: SourceUri, top: SourceUri, pattern: str) -> bool:
    """Return whether what lies below a folder is found there by a pattern; hidden files are not."""
    below = uri.segments[len(top.segments) :]
    hidden = uri.scheme == "file" and any(segment.startswith(".") for segment in below)
    return bool(below) and not hidden and matches("/".join(below), pattern)


def _expand(place: str, store_of: StoreOf, *, skip: bool) -> list[Listed]:
    uri, is_folder = to_uri(place)
    store = store_of(uri)
    refused: list[Listed] = []

    def note(source: Source, error: SourceError) -> None:
        refused.append(Listed(source, error=error))

    refuse: Refuse = note if skip else raise_error
    if is_folder:
        found = list(store.list(uri, refuse=refuse))
        if not found and not refused:
            raise SourceUriError(f"expected a folder with objects; there is none below {place!r:.200}: check the path")
    elif (literal := _find_literal(uri, store)) is not None:
        found = [literal]
    else:
        try:
            found = find_pattern(store, uri, limit=LONGEST_LIST, refuse=refuse)
        except SourceNotFoundError:
            if not refused:
                raise
            found = []
    return sorted([*map(Listed, found), *refused], key=lambda listed: listed.source.uri)


def _find_literal(uri: SourceUri, store: Store) -> Source | None:
    """Return the object that has a place's key; None where the key is a pattern, and none has it as it stands."""
    if not _is_open(uri):
        return store.find(uri)
    if uri.scheme == "file" or "[" not in uri.key:  # a key of * and ? is matched by itself
        return None
    try:
        return store.find(uri)
    except (SourceNotFoundError, SourceDeniedError):  # which some stores say of what is not there
        return None


def _read_manifest(uri: SourceUri, store_of: StoreOf) -> list[tuple[SourceUri, int | None]]:
    """Return the objects that a manifest names, and their rows where it tells them."""
    store = store_of(uri)
    manifest = store.find(uri)
    if manifest.size_bytes > MAX_MANIFEST_BYTES:
        raise FormatError(
            f"{uri}: expected a manifest of at most {MAX_MANIFEST_BYTES} bytes; got {manifest.size_bytes}"
        )
    folder = SourceUri(uri.scheme, uri.container, uri.key.rpartition("/")[0])
    named = []
    for number, line in enumerate(store.read(manifest, 0, manifest.size_bytes).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            place, rows = entry["uri"], entry.get("rows")
            usable = isinstance(place, str) and (rows is None or (type(rows) is int and 1 <= rows <= MOST_ROWS))
        except (ValueError, KeyError, TypeError, AttributeError):
            usable = False
        if not usable:
            raise FormatError(
                f'{uri}: expected {{"uri": "...", "rows": 1000}} with rows from 1 to {MOST_ROWS} or left out; '
                f"line {number} is {line[:100]!r}"
            )
        named.append((_target(place, folder), rows))
    return named


def _find_all(named: Sequence[tuple[SourceUri, int | None]], store_of: StoreOf, *, skip: bool) -> list[Listed]:
    """Return objects as they are found, several at a time; those that a store did not give now are tried again."""
    for uri, _ in named:
        store_of(uri)  # opened here, by one thread

    def find(number: int) -> Listed:
        uri, rows = named[number]
        try:
            return Listed(store_of(uri).find(uri), rows)
        except SourceError as error:
            return Listed(Source(uri, 0, None), rows, error)

    found: dict[int, Listed] = {}
    with ThreadPoolExecutor(FOUND_AT_A_TIME, thread_name_prefix="find") as pool:
        for now in in_rounds(range(len(named))):
            for number, listed in zip(now.tasks, pool.map(find, now.tasks), strict=True):
                if isinstance(listed.error, SourceUnavailableError) and not now.last:
                    now.again.append(number)
                elif listed.error is not None and not skip:
                    pool.shutdown(cancel_futures=True)
                    raise listed.error
                found[number] = listed
    return [found[number] for number in range(len(named))]


def _target(place: str, folder: SourceUri) -> SourceUri:
    if is_remote(place):
        return SourceUri.parse(place)
    if place.startswith("/") and folder.scheme == "file":
        return to_uri(place)[0]
    joined = SourceUri(folder.scheme, folder.container, f"{folder.key}/{place}".lstrip("/"))
    return SourceUri.parse(str(joined))


def _check_once(found: Iterable[Listed]) -> None:
    seen: set[SourceUri] = set()
    for listed in found:
        if listed.source.uri in seen:
            raise SettingError(f"expected each source once; {listed.source.uri} comes twice: name it once")
        seen.add(listed.source.uri)
