"""Stores and what is read of them: found, listed by a pattern, read in part."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

from assessor.errors import (
    SourceChangedError,
    SourceError,
    SourceEscapeError,
    SourceNotFoundError,
    SourceUriError,
)
from assessor.sources.backends import make_local, make_s3, translated
from assessor.sources.globs import base_of, matches
from assessor.sources.settings import StoreSettings
from assessor.sources.uris import SourceUri, check_path

LONGEST_LIST = 1_000_000
"""Most objects that are looked at for a pattern."""
_UNFINISHED = re.compile(r".*#[0-9]+", re.DOTALL)
"""Names that obstore keeps for files it has not yet written in full."""


@dataclass(frozen=True)
class Source:
    """An object as it was found.

    Attributes:
        uri: where it lies.
        size_bytes: its size.
        etag: the store's name for its bytes; other bytes have another.
    """

    uri: SourceUri
    size_bytes: int
    etag: str | None


Keep = Callable[[str], bool]
Refuse = Callable[[Source, SourceError], None]
"""Called with what lies in a folder and cannot be read, of size 0, and with the reason."""


def all_of_them(_key: str) -> bool:
    """Return true."""
    return True


def raise_error(_source: Source, error: SourceError) -> None:
    """Raise the error."""
    raise error


class Readable(Protocol):
    """Objects that were found. Safe between threads; every method blocks."""

    def read(self, source: Source, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop).

        Raises:
            SourceChangedError: it is not the object that was found. SourceError: it cannot be read.
        """
        ...

    def view(self, source: Source, start: int, stop: int) -> memoryview:
        """Return the bytes [start, stop) as they came, not copied. Raises as `read`."""
        ...


class Store(Readable, Protocol):
    """A bucket, or this machine's files."""

    def find(self, uri: SourceUri) -> Source:
        """Return the object at a URI. Raises SourceError: there is none that may be read."""
        ...

    def list(self, folder: SourceUri, keep: Keep = all_of_them, refuse: Refuse = raise_error) -> Iterator[Source]:
        """Yield all objects below a folder whose keys are kept, in any order. Raises SourceError."""
        ...


def find_pattern(store: Store, pattern: SourceUri, *, limit: int, refuse: Refuse = raise_error) -> list[Source]:
    """Return the objects that a pattern matches, sorted by the characters of their keys.

    Args:
        store: of the pattern's scheme and bucket.
        pattern: see `assessor.sources.globs`.
        limit: most objects that are taken.
        refuse: see `Store.list`.

    Raises:
        SourceNotFoundError: none matches that can be read. SourceUriError: more than `limit`, or too many to look at.
        SourceError: the store cannot be listed.
    """
    too_many = SourceUriError(
        f"expected a pattern with at most {limit} objects, among at most {LONGEST_LIST} below its folder; "
        f"{pattern} has more: take a narrower one"
    )
    looked_at = count(1)

    def keep(key: str) -> bool:
        if next(looked_at) > LONGEST_LIST:
            raise too_many
        return matches(key, pattern.key)

    found = list(islice(store.list(base_of(pattern), keep, refuse), limit + 1))
    if len(found) > limit:
        raise too_many
    if not found:
        raise SourceNotFoundError(f"expected at least one object for {pattern}; there is none: check the pattern")
    return sorted(found, key=lambda source: source.uri)


class Bucket:
    """A bucket of an S3-compatible store.

    Args:
        name: the bucket's.
        settings: how to reach it.

    Raises:
        SettingError: obstore is not installed, or the settings do not go together.
    """

    def __init__(self, name: str, settings: StoreSettings) -> None:
        self._store = make_s3(name, settings)
        self._endpoint = settings.endpoint_from()
        self._name = name

    def find(self, uri: SourceUri) -> Source:
        """Return the object at a URI; one request."""
        with translated(str(uri), self._endpoint):
            return self._source(self._store.head(uri.key))

    def list(self, folder: SourceUri, keep: Keep = all_of_them, refuse: Refuse = raise_error) -> Iterator[Source]:
        """Yield all objects below a folder whose keys are kept; a request for each 1,000.

        A key that cannot be read ends it, since obstore tells nothing of those behind.
        """
        with translated(str(folder), self._endpoint):
            for chunk in self._store.list(folder.key or None, chunk_size=1000):
                for meta in chunk:
                    if (meta["size"] or not meta["path"].endswith("/")) and keep(meta["path"]):
                        yield self._source(meta)

    def read(self, source: Source, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop); one request, which is taken up where it is cut."""
        return bytes(self.view(source, start, stop))

    def view(self, source: Source, start: int, stop: int) -> memoryview:
        """Return the bytes [start, stop) as they came; one request, which is taken up where it is cut."""
        with translated(str(source.uri), self._endpoint):
            answer = self._store.get(source.uri.key, options={"range": (start, stop)})
            _check_same(source, answer.meta)
            return memoryview(answer.bytes())

    def _source(self, meta: Any) -> Source:
        return Source(SourceUri("s3", self._name, meta["path"]), meta["size"], meta["e_tag"])


class Folder:
    """A folder of this machine, out of which no path and no link leads.

    Args:
        root: its path; links within it may lead to other places within it.

    Raises:
        SettingError: obstore is not installed.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._store = make_local()

    def find(self, uri: SourceUri) -> Source:
        """Return the file at a URI."""
        check_path(uri)
        if _UNFINISHED.fullmatch(uri.name):
            raise SourceUriError(f"expected a file whose name does not end with # and digits; got {uri}: rename it")
        path = self._confined(uri)
        with translated(str(uri), None):
            meta = self._store.head(path.lstrip("/"))
        return Source(uri, meta["size"], meta["e_tag"])

    def list(self, folder: SourceUri, keep: Keep = all_of_them, refuse: Refuse = raise_error) -> Iterator[Source]:
        """Yield the files below a folder that are kept; links to folders are not entered, hidden files passed over.

        Files that are not kept are not looked at, so a link among them that leads out of the folder does no harm.
        """
        top = Path("/", folder.key)
        self._check_inside(os.path.realpath(top), folder)
        for place, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                key = str(Path(place, name)).lstrip("/")
                if name.startswith(".") or not keep(key):
                    continue
                uri = SourceUri("file", "", key)
                try:
                    source = self.find(uri)
                except SourceError as error:
                    refuse(Source(uri, 0, None), error)
                else:
                    yield source

    def read(self, source: Source, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        return bytes(self.view(source, start, stop))

    def view(self, source: Source, start: int, stop: int) -> memoryview:
        """Return the bytes [start, stop) as they came."""
        path = self._confined(source.uri)
        with translated(str(source.uri), None):
            answer = self._store.get(path.lstrip("/"), options={"range": (start, stop)})
            self._check_opened(source, path, answer.meta)
            return memoryview(answer.bytes())

    def _confined(self, uri: SourceUri) -> str:
        """Return the path of a regular file, without links, that lies in the folder."""
        path = os.path.realpath(Path("/", uri.key))
        self._check_inside(path, uri)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            raise SourceNotFoundError(f"expected a file at {uri}; there is none: check the path") from None
        if not stat.S_ISREG(mode):
            raise SourceEscapeError(
                f"expected a file at {uri}; it is a folder or a device: name files, or a pattern such as {uri}/*"
            )
        return path

    def _check_inside(self, path: str, uri: SourceUri) -> None:
        if path != self._root and not path.startswith(self._root.rstrip("/") + "/"):
            raise SourceEscapeError(f"expected a path that stays in its folder; a link at {uri} leads out of it")

    def _check_opened(self, source: Source, path: str, meta: Any) -> None:
        """Check that the file opened is the one checked: a link put in its place meanwhile has another inode."""
        _check_same(source, meta)
        inode = int(str(meta["e_tag"]).lstrip('"').partition("-")[0], 16)  # as obstore makes a file's etag
        if self._confined(source.uri) != path or os.lstat(path).st_ino != inode:
            raise SourceEscapeError(f"expected {source.uri} to stay what it was; it was replaced while it was opened")


def open_store(uri: SourceUri, settings: StoreSettings, *, root: str = "/") -> Store:
    """Return the store that holds a URI.

    Args:
        uri: of an object in it.
        settings: how object stores are reached.
        root: the folder that files must lie in, links followed.

    Raises:
        SettingError: obstore is not installed, or the settings do not go together.
    """
    return Folder(root) if uri.scheme == "file" else Bucket(uri.container, settings)


def _check_same(source: Source, meta: Any) -> None:
    if (meta["size"], meta["e_tag"]) != (source.size_bytes, source.etag):
        raise SourceChangedError(
            f"expected {source.uri} as it was found, {source.size_bytes} bytes, etag {source.etag}; got "
            f"{meta['size']} bytes, etag {meta['e_tag']}: it was written meanwhile; start again when it is complete"
        )
