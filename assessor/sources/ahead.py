"""Small objects of a bucket, read whole before they are asked for: a round trip each is most of what they cost."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from assessor.sources.stores import Readable, Source

SMALL_BYTES = 1 << 20
"""Largest object that is read whole, and ahead."""
READ_AHEAD = 16
"""Small objects that are asked for at a time; they and the one that is worked on are all that is held."""


class ReadAhead:
    """Some objects of a store, in the order in which they will be read.

    Args:
        sources: those that are read once from beginning to end.
        store: that holds them.
    """

    def __init__(self, sources: Iterable[Source], store: Readable) -> None:
        self._store = store
        small = [source for source in sources if source.uri.scheme != "file" and source.size_bytes <= SMALL_BYTES]
        self._coming = deque(small if len(small) > 1 else ())
        self._asked: dict[Source, Future[memoryview]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def store_of(self, source: Source) -> Readable:
        """Return where to read an object from, and ask for small ones that come after it.

        Objects may be passed over, but not come back to.
        """
        if source not in self._asked and source not in self._coming:
            return self._store
        while source not in self._asked:
            self._ask()
        mine = self._asked[source]
        for passed in list(self._asked):
            del self._asked[passed]
            if passed == source:
                break
        while self._coming and len(self._asked) < READ_AHEAD:
            self._ask()
        return _Asked(mine)

    def close(self) -> None:
        """Ask for nothing more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _ask(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="ahead")
        source = self._coming.popleft()
        self._asked[source] = self._pool.submit(self._store.view, source, 0, source.size_bytes)


class _Asked:
    """The object that was asked for, as a store of it."""

    def __init__(self, content: "Future[memoryview]") -> None:
        self._content = content

    def read(self, _source: Source, start: int, stop: int) -> bytes:
        return bytes(self._content.result()[start:stop])

    def view(self, _source: Source, start: int, stop: int) -> memoryview:
        return self._content.result()[start:stop]
