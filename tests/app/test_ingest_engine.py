"""Ingest jobs whose objects are read by an engine: the same shards, with the same errors."""

import gzip
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.jobs import ahead, ingesting
from app.settings import Settings
from tests.app.jobs import DEADLINE_S, ask, check_plan, reading, wait, write_shards
from tests.app.support import create, npy, npy_head, rows, safetensors
from tests.assessor.test_looking import damaged
from tests.object_stores import KEYS, endless

START_RAY_S = 300.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(make_database: Callable[[], str], root: Path) -> Iterator[httpx.Client]:
    settings = Settings(database_url=make_database(), port=0, engine="processes", engine_workers=2)
    with reading(settings, f"file://{root}/") as client:
        yield client


@pytest.fixture
def read_by_the_job(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects that the job reads itself."""
    names: list[str] = []
    real = ahead.shard_reader

    def noting(item: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        names.append(item["uri"].rpartition("/")[2])
        return real(item, *arguments, **options)

    monkeypatch.setattr(ingesting, "shard_reader", noting)
    return names


def test_workers_read_and_the_job_stores(service: httpx.Client, root: Path, read_by_the_job: list[str]) -> None:
    x = write_shards(root / "many", *[7] * 11)  # more than a window
    here, there = create(service), create(service)
    job = wait(service, ask(service, here, pattern=f"file://{root}/many/*"))
    assert job["state"] == "succeeded"
    assert job["progress"]["rows"] == 77
    assert read_by_the_job == []
    order = sorted(range(11), key=str)
    check_plan(service, here, np.concatenate([x[7 * k : 7 * k + 7] for k in order]))
    for index, number in enumerate(order):
        service.put(f"{there}/shards/{index}", content=npy(x[7 * number : 7 * number + 7])).raise_for_status()
    assert service.get(here).json()["shards"] == service.get(there).json()["shards"]


def test_what_headers_do_not_tell_is_read_by_the_job(
    service: httpx.Client, root: Path, read_by_the_job: list[str]
) -> None:
    folder = root / "mixed"
    folder.mkdir()
    x = rows(40)
    (folder / "a.npy").write_bytes(npy(x[:10]))
    (folder / "b.npy.gz").write_bytes(gzip.compress(npy(x[10:20])))  # the last whose first row is known
    (folder / "c.npy").write_bytes(npy(x[20:]))
    assessment = create(service)
    assert wait(service, ask(service, assessment, pattern=f"file://{folder}/*"))["state"] == "succeeded"
    assert read_by_the_job == ["c.npy"]
    check_plan(service, assessment, x)


def test_what_a_worker_cannot_read_the_job_says(service: httpx.Client, root: Path, read_by_the_job: list[str]) -> None:
    write_shards(root / "bad", 8, 8, 8)
    broken = rows(8)
    broken[2, 1] = np.nan
    (root / "bad" / "part-1.npy").write_bytes(npy(broken))
    job = wait(service, ask(service, create(service), pattern=f"file://{root}/bad/*"))
    assert job["state"] == "failed"
    assert job["problem"]["type"] == "/problems/non-finite"
    assert "bad/part-1.npy: expected finite values; row 10" in job["problem"]["detail"]
    assert read_by_the_job == ["part-1.npy"]
    (root / "bad" / "part-1.npy").write_bytes(npy(rows(8, features=5)))
    job = wait(service, ask(service, create(service), pattern=f"file://{root}/bad/*"))
    assert job["problem"]["type"] == "/problems/shape-mismatch"


@pytest.mark.parametrize("what", ["many rows", "offset"])
@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_an_object_that_says_what_cannot_be_true_ends_a_job_alike(
    settings: Settings, tmp_path: Path, engine: str, what: str
) -> None:
    """Whether its header is read first, or its rows."""
    body = damaged(tmp_path, what)
    x, y = rows(20), np.arange(20)
    for name, data in (("0.safetensors", safetensors(x, y)), ("1.arrow", body), ("2.safetensors", safetensors(x, y))):
        (tmp_path / name).write_bytes(data)
    with reading(settings, f"file://{tmp_path}/", engine=engine, engine_workers=1) as client:
        assessment = create(client)
        job = wait(client, ask(client, assessment, pattern=f"file://{tmp_path}/[012].*"))
        assert job["state"] == "failed"
        assert job["problem"]["type"] == "/problems/malformed-shard"
        assert f"file://{tmp_path}/1.arrow: expected" in job["problem"]["detail"]
        assert [shard["rows"] for shard in client.get(assessment).json()["shards"]] == [20]


def test_whatever_a_worker_raises_is_left_to_the_job(settings: Settings, root: Path) -> None:
    """As of what no one has foreseen; the job then says it, or reads the object."""
    assert ahead.count_rows(ahead.Shared(settings, None), (0, {}), print) is None  # type: ignore[arg-type]
    assert ahead.read_object(ahead.Shared(settings, None), (0, {}, 0), print) is None  # type: ignore[arg-type]


def test_a_job_cancelled_while_its_workers_read_ends_and_stores_nothing(settings: Settings) -> None:
    keys = {f"ingest_{name}": value for name, value in KEYS.items()}
    others = active_children()  # of tests before this one
    with (
        endless(npy_head((10**9, 6))) as endpoint,
        reading(
            settings, "s3://data/", ingest_endpoint=endpoint, engine="processes", engine_workers=2, **keys
        ) as client,
    ):
        assessment = create(client)
        items = [{"uri": f"s3://data/{k}.npy", "first_row": k * 10**6} for k in range(4)]
        job = ask(client, assessment, shards=items)
        deadline = time.monotonic() + DEADLINE_S
        while not client.get(job).json()["progress"]["bytes"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workers = [process for process in active_children() if process not in others]
        assert [process.name for process in workers] == ["normgauge-worker"] * 2
        assert client.delete(job).json()["state"] == "running"
        assert wait(client, job)["state"] == "cancelled"
        assert client.get(assessment).json()["shards"] == []
        assert not set(workers) & set(active_children())  # none of them goes on reading


@pytest.mark.ray
def test_jobs_side_by_side_share_one_ray(settings: Settings, root: Path) -> None:
    ray = pytest.importorskip("ray")
    sizes = {"short": [9] * 2, "long": [9] * 20}
    x = {name: write_shards(root / name, *rows) for name, rows in sizes.items()}
    with reading(settings, f"file://{root}/", engine="ray", engine_workers=2, job_workers=2) as client:
        assessments = {name: create(client) for name in sizes}
        jobs = {name: ask(client, assessments[name], pattern=f"file://{root}/{name}/*") for name in sizes}
        for name, rows in sizes.items():
            assert wait(client, jobs[name], within_s=START_RAY_S)["state"] == "succeeded"
            order = sorted(range(len(rows)), key=str)
            check_plan(client, assessments[name], np.concatenate([x[name][9 * k : 9 * k + 9] for k in order]))
    assert not ray.is_initialized()


def test_an_unknown_engine_is_refused_when_the_service_starts() -> None:
    with pytest.raises(ValueError, match="expected an engine among: serial, processes, ray"):
        Settings(engine="dask")
