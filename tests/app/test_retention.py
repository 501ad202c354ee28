"""Retention: what was not changed for long is removed, with all that hangs on it, once, by whichever replica."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from app.database import ASSESSMENTS, METADATA, SHARDS
from app.main import create_app
from app.problems import ProblemError
from app.serving import running
from app.settings import Settings
from app.storage import Store
from app.sweeping import Sweeper
from app.times import now_text
from tests.app.jobs import wait
from tests.app.support import create, npy, rows
from tests.app.test_storage import SHARD
from tests.app.test_storage import create as create_stored

pytestmark = pytest.mark.databases

DAY_S = 86_400


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A store that keeps assessments for two days."""
    with closing(Store(settings.model_copy(update={"retention_days": 2.0}))) as store:
        store.migrate()
        yield store


def age(store: Store, assessment_id: str, days: float) -> None:
    """Make an assessment as old as if it had last changed so many days ago."""
    update = ASSESSMENTS.update().where(ASSESSMENTS.c.id == assessment_id)
    with store.writing() as connection:
        connection.execute(update.values(changed_at=now_text(ago_s=days * DAY_S)))


def rows_left(store: Store) -> dict[str, int]:
    """Return the number of rows in every table that hangs on assessments."""
    names = ("assessments", "shards", "jobs", "job_events")
    with store.engine.connect() as connection:
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(METADATA.tables[name])).scalar_one()
            for name in names
        }


def test_only_what_expired_is_removed(store: Store) -> None:
    old, young = create_stored(store), create_stored(store)
    store.add_shard(old.id, SHARD, b"profile", max_shards=9)
    age(store, old.id, 2.01)
    age(store, young.id, 1.99)
    assert [store.remove_expired(), store.remove_expired()] == [True, False]
    with pytest.raises(ProblemError, match="does not exist"):
        store.get_assessment(old.id)
    assert store.get_assessment(young.id)[0].id == young.id
    assert rows_left(store) == {"assessments": 1, "shards": 0, "jobs": 0, "job_events": 0}


def test_a_shard_that_comes_keeps_it(store: Store) -> None:
    assessment = create_stored(store)
    age(store, assessment.id, 2.01)
    store.add_shard(assessment.id, SHARD, b"", max_shards=9)
    assert not store.remove_expired()
    # The same shard again changes nothing, so it keeps nothing either.
    age(store, assessment.id, 2.01)
    assert not store.add_shard(assessment.id, SHARD, b"", max_shards=9)
    assert store.remove_expired()


def test_zero_keeps_for_ever(settings: Settings, store: Store) -> None:
    assessment = create_stored(store)
    age(store, assessment.id, 30_000)
    with closing(Store(settings.model_copy(update={"retention_days": 0.0}))) as keeping:
        assert not keeping.remove_expired()
        assert keeping.get_assessment(assessment.id)[0].expires_at is None


def test_replicas_remove_each_once(settings: Settings, store: Store) -> None:
    ids = [create_stored(store).id for _ in range(20)]
    for number, assessment_id in enumerate(ids):
        store.add_shard(assessment_id, replace(SHARD, index=number), b"x" * 1000, max_shards=9)
        age(store, assessment_id, 3)
    kept = create_stored(store)
    stores = [store, *(Store(store._settings) for _ in range(3))]
    barrier = Barrier(len(stores))

    def sweep(replica: Store) -> int:
        barrier.wait()
        removed = 0
        while replica.remove_expired():
            removed += 1
        return removed

    with ThreadPoolExecutor(len(stores)) as pool:
        removed = sum(pool.map(sweep, stores))
    # On PostgreSQL a replica leaves those that another has in hand; none is removed twice and none is left.
    assert removed == 20
    assert [item.id for item in store.list_assessments(limit=9, before=None)] == [kept.id]
    assert rows_left(store)["shards"] == 0
    for replica in stores[1:]:
        replica.close()


def test_expiry_is_told_and_moves_with_each_shard(settings: Settings) -> None:
    changed = settings.model_copy(update={"retention_days": 2.0})
    with running(changed) as url, httpx.Client(base_url=url, timeout=60) as client, closing(Store(changed)) as store:
        path = create(client)
        state = client.get(path).json()
        made, expires = (datetime.fromisoformat(state[name]) for name in ("created_at", "expires_at"))
        assert expires - made == timedelta(days=2)
        age(store, path.rpartition("/")[2], 1)
        before = client.get(path).json()["expires_at"]
        assert client.put(f"{path}/shards/0", content=npy(rows(8))).status_code == 201
        after = client.get(path).json()["expires_at"]
        assert datetime.fromisoformat(after) - datetime.fromisoformat(before) >= timedelta(days=1)
        assert client.get("/v1/assessments").json()["assessments"][0]["expires_at"] == after


def test_running_service_sweeps(settings: Settings) -> None:
    changed = settings.model_copy(update={"retention_days": 2.0, "sweep_interval_s": 0.02})
    with running(changed) as url, httpx.Client(base_url=url, timeout=60) as client, closing(Store(changed)) as store:
        path, other = create(client), create(client)
        age(store, path.rpartition("/")[2], 3)
        deadline = time.monotonic() + 60
        while client.get(path).status_code == 200:
            assert time.monotonic() < deadline, "it was never removed"
            time.sleep(0.01)
        assert client.get(path).status_code == 404
        assert client.get(other).status_code == 200


@pytest.mark.parametrize("removal", ["expires", "deleted elsewhere", "deleted here"])
def test_its_profiles_leave_the_memory(settings: Settings, removal: str) -> None:
    """Also those of one that another process removed, and not those of others."""
    changed = settings.model_copy(update={"retention_days": 2.0})
    # The application sweeps when it starts, on a busy machine later than what follows: nothing expires for it.
    application = create_app(settings.model_copy(update={"retention_days": 0.0, "sweep_interval_s": 3600.0}))
    service = application.state.service
    with TestClient(application, base_url="http://localhost") as client, closing(Store(changed)) as store:
        new = {"name": "test", "batch_sizes": [4]}
        paths = [client.post("/v1/assessments", json=new).headers["location"] for _ in range(2)]
        for path in paths:
            assert client.put(f"{path}/shards/0", content=npy(rows(8))).status_code == 201
            assert client.get(f"{path}/plan").status_code == 200
        gone, kept = (path.rpartition("/")[2] for path in paths)
        assert service.cache.assessments == {gone, kept}
        if removal == "deleted here":
            assert client.delete(paths[0]).status_code == 204
            assert service.cache.assessments == {kept}
        if removal == "deleted elsewhere":
            store.delete_assessment(gone)
        if removal == "expires":
            age(store, gone, 3)
        sweeper = Sweeper(store, service.keys, service.cache, changed)
        assert sweeper.sweep() == (1 if removal == "expires" else 0)
        assert service.cache.assessments == {kept}
        assert client.get(f"{paths[1]}/plan").status_code == 200


def test_delete_removes_all_that_hangs_on_it(settings: Settings) -> None:
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client, closing(Store(settings)) as store:
        path = create(client)
        assert client.put(f"{path}/shards/0", content=npy(rows(8))).status_code == 201
        asked = client.get(f"{path}/plan", headers={"Prefer": "respond-async"})
        assert asked.status_code == 202
        wait(client, asked.headers["location"])
        assert min(rows_left(store).values()) > 0
        assert client.delete(path).status_code == 204
        assert rows_left(store) == {"assessments": 0, "shards": 0, "jobs": 0, "job_events": 0}


def test_every_table_hangs_on_an_assessment_and_goes_with_it() -> None:
    """A table that comes later and holds what is of an assessment has to go with it too."""
    for table in METADATA.tables.values():
        for key in table.foreign_keys:
            if key.column.table in (ASSESSMENTS, SHARDS) or table.name.startswith("job"):
                assert key.ondelete == "CASCADE", (table.name, key.parent.name)
