"""Shards side by side, only the missing ones, with progress: against the real service."""

import asyncio
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from assessor import assess
from clients import AssessedLoader, AssessorClient, AsyncAssessorClient, ServiceUnavailableError, Shard, ShardInfo
from clients.errors import ShardConflictError

from .datasets import Pairs, two_sources

X, Y = two_sources(80)
SHARDS = [Shard(i, X[i * 10 : i * 10 + 10], Y[i * 10 : i * 10 + 10], i * 10) for i in range(8)]


class Watched(httpx.BaseTransport):
    """Counts uploads, how many ran at a time, and cuts the connection after some.

    The first `together` uploads wait until so many have come.
    """

    def __init__(self, cut_after: int | None = None, together: int = 1) -> None:
        self.inner = httpx.HTTPTransport()
        self.puts = self.at_once = self.running = 0
        self.cut_after = cut_after
        self.together = threading.Barrier(together)
        self.lock = threading.Lock()

    def close(self) -> None:
        self.inner.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "PUT":
            return self.inner.handle_request(request)
        with self.lock:
            if self.cut_after is not None and self.puts >= self.cut_after:
                raise httpx.ReadError("cut")
            self.puts += 1
            self.running += 1
            self.at_once = max(self.at_once, self.running)
            first = self.puts <= self.together.parties
        if first:
            self.together.wait(120)
        threading.Event().wait(0.05)  # in which one too many would come
        try:
            return self.inner.handle_request(request)
        finally:
            with self.lock:
                self.running -= 1


def test_shards_side_by_side(service_url: str) -> None:
    transport = Watched(together=3)
    seen: list[ShardInfo] = []
    with AssessorClient(service_url, transport=transport) as client:
        info = client.create_assessment("parallel", [4])
        stored = client.put_shards(info.id, iter(SHARDS), parallel=3, progress=seen.append)
        assert client.plan(info.id).to_json() == assess(X, batch_size=4, labels=Y).to_json()
    assert [shard.index for shard in stored] == list(range(8))
    assert seen == stored
    assert transport.puts == 8
    assert transport.at_once == 3


def test_only_the_missing_are_sent(service_url: str) -> None:
    with AssessorClient(service_url, transport=Watched(cut_after=5), retries=0) as client:
        info = client.create_assessment("cut", [4])
        with pytest.raises(ServiceUnavailableError, match="cut"):
            client.put_shards(info.id, SHARDS, parallel=2)
    transport = Watched()
    with AssessorClient(service_url, transport=transport) as client:
        before = client.get_assessment(info.id).shards or ()
        stored = client.put_shards(info.id, SHARDS, parallel=2)
        assert transport.puts == 8 - len(before) == 3
        assert [shard.index for shard in stored] == list(range(8))
        assert client.plan(info.id).to_json() == assess(X, batch_size=4, labels=Y).to_json()


def test_other_bytes_are_refused_as_ever(service_url: str) -> None:
    with AssessorClient(service_url) as client:
        info = client.create_assessment("other", [4])
        client.put_shards(info.id, SHARDS[:2])
        with pytest.raises(ShardConflictError):
            client.put_shards(info.id, [Shard(1, X[:10], Y[:10], 10)])
        with pytest.raises(ValueError, match="expected parallel >= 1; got 0"):
            client.put_shards(info.id, SHARDS, parallel=0)


def test_asynchronous(service_url: str) -> None:
    async def main() -> None:
        async with AsyncAssessorClient(service_url) as client:
            info = await client.create_assessment("parallel", [4])
            seen: list[ShardInfo] = []
            first = await client.put_shards(info.id, SHARDS[:3], parallel=2, progress=seen.append)
            stored = await client.put_shards(info.id, SHARDS, parallel=3)
            assert stored[:3] == first == seen
            assert (await client.plan(info.id)).to_json() == assess(X, batch_size=4, labels=Y).to_json()
            with pytest.raises(ShardConflictError):
                await client.put_shards(info.id, [Shard(0, X[:3], Y[:3], 0), *SHARDS[1:]], parallel=2)

    asyncio.run(main())


def test_progress_of_one_shard(service_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.bodies.PIECE_BYTES", 100)
    seen: list[tuple[int, int | None]] = []
    with AssessorClient(service_url) as client:
        info = client.create_assessment("progress", [4])
        stored = client.put_shard(info.id, 0, X, progress=lambda sent, size: seen.append((sent, size)))
    assert [sent for sent, _ in seen] == sorted({sent for sent, _ in seen})
    assert seen[-1] == (stored.size_bytes, stored.size_bytes)
    assert len(seen) > 10


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.remote.SHARD_BYTES", 200)
    monkeypatch.setattr("clients.reading._BLOCK_ROWS", 10)


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_assessment_goes_on(service_url: str) -> None:
    """The loader finds what the service has by the content's name, and sends the rest."""
    x = X + 1  # content of its own: assessments are found by it
    with AssessorClient(service_url, transport=Watched(cut_after=3), retries=0) as client:
        with pytest.raises(ServiceUnavailableError) as error:
            assert AssessedLoader(Pairs(x, Y), 4, service=client, shuffle=False).plan
        assert "is kept: the same call sends the rest" in "".join(error.value.__notes__)
    transport = Watched()
    with AssessorClient(service_url, transport=transport) as client:
        count = len(list(client.list_assessments()))
        plan = AssessedLoader(Pairs(x, Y), 4, service=client, shuffle=False).plan
        assert plan.to_json() == assess(x, batch_size=4, labels=Y).to_json()
        assert transport.puts == 8 - 3
        assert len(list(client.list_assessments())) == count


@pytest.mark.usefixtures("small_shards")
def test_other_content_under_the_same_name_begins_again(service_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that the name does not see: the shards differ, and all are sent anew."""
    monkeypatch.setattr("clients.planned.content_name", lambda *arguments, **options: "0" * 64)
    for shift in (2, 3):
        plan = AssessedLoader(Pairs(X + shift, Y), 4, service=service_url, shuffle=False).plan
        assert plan.to_json() == assess((X + shift).astype(np.float32), batch_size=4, labels=Y).to_json()


def test_a_service_and_a_cache(service_url: str, tmp_path: Any) -> None:
    first = AssessedLoader(Pairs(X, Y), 4, service=service_url, cache=tmp_path).plan
    # no service is there any more, and none is needed
    again = AssessedLoader(Pairs(X, Y), 4, service="http://127.0.0.1:9", cache=tmp_path).plan
    assert again.to_json() == first.to_json()
