"""Small objects of a bucket: asked for several at a time, each once, and no more of them held than that."""

from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from threading import Barrier, Lock

import numpy as np
import pytest

from assessor import SourceUnavailableError, profile_array
from assessor.execution import profile_sources, work
from assessor.sources import Source, SourceUri
from assessor.sources.ahead import READ_AHEAD, SMALL_BYTES, ReadAhead
from assessor.sources.blocks import cut
from assessor.sources.extents import inspect_source
from tests.object_stores import S3, moto


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """Moto's S3 server."""
    with moto() as s3:
        yield s3


class Bucket:
    """Objects whose bytes are their names; a read waits until so many others are under way."""

    def __init__(self, together: int = 1) -> None:
        self._all_here = Barrier(together)
        self._lock = Lock()
        self.reads: list[str] = []

    def view(self, source: Source, start: int, stop: int) -> memoryview:
        with self._lock:
            self.reads.append(source.uri.key)
        if source.uri.key.startswith("bad"):
            raise SourceUnavailableError(source.uri.key)
        self._all_here.wait(60)
        return memoryview(source.uri.key.encode())[start:stop]

    def read(self, source: Source, start: int, stop: int) -> bytes:
        return bytes(self.view(source, start, stop))


def sources(n: int, *, scheme: str = "s3", name: str = "") -> list[Source]:
    keys = [f"{name}{number:04}" for number in range(n)]
    return [Source(SourceUri(scheme, "data" if scheme == "s3" else "", key), len(key), None) for key in keys]


def test_as_many_are_asked_for_at_a_time_as_may_be() -> None:
    """They wait for each other, so one after the other would wait for ever."""
    bucket, given = Bucket(READ_AHEAD), sources(3 * READ_AHEAD)
    with closing(ReadAhead(given, bucket)) as ahead:
        for number, source in enumerate(given):
            store = ahead.store_of(source)
            assert len(bucket.reads) <= number + READ_AHEAD + 1
            assert store.read(source, 0, 4) == source.uri.key.encode()
            assert bytes(store.view(source, 1, 3)) == source.uri.key.encode()[1:3]
    assert sorted(bucket.reads) == [source.uri.key for source in given]


def test_what_is_passed_over_is_not_held() -> None:
    bucket, given = Bucket(), sources(9)
    with closing(ReadAhead(given, bucket)) as ahead:
        for source in (given[0], given[5], given[8]):
            assert ahead.store_of(source).read(source, 0, 9) == source.uri.key.encode()
        assert ahead.store_of(given[3]) is bucket


def test_an_object_that_cannot_be_read_fails_alone() -> None:
    bucket = Bucket()
    given = [*sources(2), *sources(1, name="bad"), *sources(2, name="b")]
    with closing(ReadAhead(given, bucket)) as ahead:
        for source in given:
            store = ahead.store_of(source)
            if source.uri.key.startswith("bad"):
                with pytest.raises(SourceUnavailableError, match="bad0000"):
                    store.read(source, 0, 1)
            else:
                assert store.read(source, 0, 1) == source.uri.key.encode()[:1]


def test_the_same_object_twice() -> None:
    bucket, given = Bucket(), sources(2)
    with closing(ReadAhead([given[0], given[1], given[0]], bucket)) as ahead:
        for source in (given[0], given[1], given[0]):
            assert ahead.store_of(source).read(source, 0, 4) == source.uri.key.encode()


def test_files_and_large_objects_and_single_ones_are_read_when_they_are_wanted() -> None:
    large = [Source(SourceUri("s3", "data", f"{k}"), SMALL_BYTES + 1, None) for k in range(3)]
    for given in (sources(3, scheme="file"), large, sources(1), []):
        bucket = Bucket()
        with closing(ReadAhead(given, bucket)) as ahead:
            assert all(ahead.store_of(source) is bucket for source in given)
        assert bucket.reads == []


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_dataset_in_many_small_objects(s3: S3, engine: str) -> None:
    """Among them one that is read as it comes, and labels."""
    x = np.random.default_rng(0).standard_normal((1500, 64)).astype(np.float32)
    edges = [*range(0, 400, 10), 1400, *range(1410, 1501, 10)]
    for number, start in enumerate(edges[:-1]):
        body = BytesIO()
        np.save(body, x[start : edges[number + 1]])
        s3.put(f"small-{engine}/{number:03}.npy", body.getvalue())
    found = profile_sources([f"s3://data/small-{engine}/*.npy"], batch_sizes=[8], engine=engine, stores=s3.settings)
    assert found.profile.to_bytes() == profile_array(x, batch_sizes=[8]).to_bytes()


def test_a_task_over_many_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a worker keeps open."""
    body = BytesIO()
    np.save(body, np.arange(32, dtype=np.float32).reshape(8, 4))
    content = body.getvalue()

    class One:
        def read(self, source: Source, start: int, stop: int) -> bytes:
            return content[start:stop]

        def view(self, source: Source, start: int, stop: int) -> memoryview:
            return memoryview(content)[start:stop]

    monkeypatch.setattr(work, "open_store", lambda uri, settings: One())
    settings, placed = work.Settings((4,)), []
    for number in range(70):
        source = Source(SourceUri("s3", f"bucket{number}", "a.npy"), len(content), None)
        extent = inspect_source(One(), source, settings.decode, format=None, rows=None, on_bytes=lambda n: None)
        placed.append(work.Placed(number, cut(extent, 1 << 20)[0], 8 * number))
    try:
        done = work.profile_blocks(settings, work.Reading(tuple(placed)), lambda n: None)
    finally:
        work._store.cache_clear()
    assert done.failures == ()
    assert [len(part.numbers) for part in done.parts] == [70]
