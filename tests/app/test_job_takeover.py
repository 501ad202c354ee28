"""Two server processes on one database: a job of one that is killed, or only seemed dead, is finished by the other."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import httpx
import numpy as np
import pytest

from app.jobs.tables import JOBS
from app.settings import Settings
from app.storage import Store
from tests.app.jobs import DEADLINE_S, ask, check_plan, follow, wait
from tests.app.processes import served
from tests.app.support import create, npy, rows
from tests.object_stores import Gated

pytestmark = pytest.mark.databases

SIZES = (8, 5, 9, 8, 10)
X = rows(sum(SIZES))


class Pair:
    """Two servers on one database, and the store that they read.

    A lease lasts an hour: on however slow a machine, a job is lost only where it is handed back or by `expire`.
    """

    def __init__(self, stack: ExitStack, database_url: str) -> None:
        self.store = stack.enter_context(Gated().serving())
        parts = np.split(X, np.cumsum(SIZES)[:-1])
        self.store.objects = {f"/data/{i}.npy": npy(part) for i, part in enumerate(parts)}
        settings: dict[str, Any] = {
            "ingest_prefixes": "s3://data/",
            "ingest_endpoint": self.store.url,
            "ingest_access_key_id": "test",
            "ingest_secret_access_key": "test",
            "job_lease_s": 3600,
            "job_poll_s": 0.1,
        }
        self.database = stack.enter_context(closing(Store(Settings(database_url=database_url))))
        self.servers = [stack.enter_context(served(database_url, **settings)) for _ in range(2)]
        self.clients = {
            server.pid: stack.enter_context(httpx.Client(base_url=url, timeout=DEADLINE_S))
            for url, server in self.servers
        }

    def owner_of(self, job: str) -> int:
        """Return the process that has a job in hand."""
        query = JOBS.select().where(JOBS.c.id == job.rpartition("/")[2])
        with self.database.engine.connect() as connection:
            row = connection.execute(query).one()
        return int(row.owner.split("-")[-2])

    def expire(self, job: str, owner: int, number: signal.Signals) -> None:
        """Send a signal to the process that has a job in hand; see to it that its lease has run out then."""
        # In a transaction, so that it does not stand still with SQLite's only lock in its hands.
        with self.database.writing() as connection:
            os.kill(owner, number)
            gone = JOBS.update().where(JOBS.c.id == job.rpartition("/")[2]).values(lease_until=0.0)
            connection.execute(gone)

    def other_than(self, pid: int) -> httpx.Client:
        """Return the client of the other server."""
        return next(client for other, client in self.clients.items() if other != pid)

    def begin(self, client: httpx.Client, stopped_at: int) -> tuple[str, str]:
        """Return an assessment and its job, which has come to the object at which it is held up."""
        held = self.store.hold(f"/data/{stopped_at}.npy")
        assessment = create(client)
        job = ask(client, assessment, shards=[{"uri": f"s3://data/{i}.npy"} for i in range(len(SIZES))])
        assert held.wait(DEADLINE_S)
        assert client.get(job).json()["progress"]["shards_done"] == stopped_at
        return assessment, job


@pytest.fixture
def pair(settings: Settings) -> Iterator[Pair]:
    """Two running servers."""
    with ExitStack() as stack:
        yield Pair(stack, settings.database_url)


def check_finished(client: httpx.Client, assessment: str, job: str) -> list[dict[str, Any]]:
    """Check that a job stored each shard once and gives the plan of a single pass; return its events' data."""
    state = wait(client, job)
    assert state["state"] == "succeeded", state
    assert state["progress"]["shards_done"] == len(SIZES)
    assert state["progress"]["rows"] == len(X)
    shards = client.get(assessment).json()["shards"]
    assert [(s["index"], s["rows"]) for s in shards] == list(enumerate(SIZES))
    events = [json.loads(e["data"]) | {"name": e["event"]} for e in follow(client, job) if "id" in e]
    assert [e["index"] for e in events if e["name"] == "shard"] == list(range(len(SIZES)))
    assert sum(e["name"] == "started" for e in events) >= 2
    check_plan(client, assessment, X)
    return events


def until(condition: Callable[[], bool]) -> None:
    """Return when a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_other_server_goes_on(pair: Pair) -> None:
    first = next(iter(pair.clients.values()))

    # One that stands still long enough loses its job, and when it goes on it can write nothing.
    assessment, job = pair.begin(first, stopped_at=2)
    sleeper = pair.owner_of(job)
    pair.expire(job, sleeper, signal.SIGSTOP)
    other = pair.other_than(sleeper)
    events = check_finished(other, assessment, job)
    pair.store.let_go()
    os.kill(sleeper, signal.SIGCONT)
    assert pair.clients[sleeper].get(job).json()["state"] == "succeeded"

    # One that is killed has its job finished, from the shard at which it was.
    killed_assessment, killed_job = pair.begin(other, stopped_at=3)
    # By now the sleeper has come to itself: what it did of the first job changed nothing.
    assert len([e for e in follow(other, job) if "id" in e]) == len(events)
    killed = pair.owner_of(killed_job)
    pair.expire(killed_job, killed, signal.SIGKILL)
    survivor = pair.other_than(killed)
    until(lambda: survivor.get(killed_job).json()["attempts"] >= 2)
    pair.store.let_go()
    check_finished(survivor, killed_assessment, killed_job)
    # Both wrote 0 to 2 shards before they were gone; none of these was read again.
    assert pair.store.reads("/data/0.npy") == 2


def test_a_server_that_goes_down_hands_its_job_back_at_once(settings: Settings) -> None:
    with ExitStack() as stack:
        pair = Pair(stack, settings.database_url)  # only by being handed back does the job come to the other server
        assessment, job = pair.begin(next(iter(pair.clients.values())), stopped_at=2)
        leaving = pair.owner_of(job)
        process = next(server for _, server in pair.servers if server.pid == leaving)
        process.send_signal(signal.SIGTERM)
        until(lambda: not answers_ready(pair.clients[leaving]))
        pair.store.let_go()
        other = pair.other_than(leaving)
        events = check_finished(other, assessment, job)
        names = [event["name"] for event in events if event["name"] != "shard"]
        assert names == ["queued", "started", "handed_back", "started", "succeeded"]
        assert process.wait(DEADLINE_S) == -signal.SIGTERM  # raised again at its end, not the kill of the fixture
        # Shards stored before were not read again.
        assert pair.store.reads("/data/0.npy") == 1


def answers_ready(client: httpx.Client) -> bool:
    """Return whether a server says that it is ready."""
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
