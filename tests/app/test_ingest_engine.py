"""Ingest jobs whose objects are read by an engine: the same shards, with the same errors."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.jobs import ahead, ingesting
from app.settings import Settings
from tests.app.jobs import ask, check_plan, reading, wait, write_shards
from tests.app.support import create, npy, rows


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


def test_an_unknown_engine_is_refused_when_the_service_starts() -> None:
    with pytest.raises(ValueError, match="expected a engine among: serial, processes, ray"):
        Settings(engine="dask")
