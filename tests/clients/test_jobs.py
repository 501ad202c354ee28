"""Ingest by URI and plans made by jobs, from both clients, against the real service."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assessor
from app.serving import running
from app.settings import Settings
from assessor import assess
from clients import AssessorClient, AsyncAssessorClient, JobCancelledError, JobInfo, Shard
from clients.errors import JobNotFoundError, RemoteFormatError, SourceNotAllowedError

X = np.random.default_rng(0).normal(2, 1, size=(60, 5)).astype(np.float32)
CUTS = (0, 13, 40, 60)


@contextmanager
def reading(folder: Path, root: Path, **changes: Any) -> Iterator[str]:
    """Run a service that may read a folder."""
    settings = Settings(
        port=0,
        database_url=f"sqlite:///{folder / 'service.db'}",
        ingest_prefixes=(f"file://{root}/",),
        job_poll_s=0.05,
        **changes,
    )
    with running(settings) as url:
        yield url


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows in three files, and one that is no shard."""
    root = tmp_path_factory.mktemp("data")
    for i in range(3):
        np.save(root / f"part-{i}.npy", X[CUTS[i] : CUTS[i + 1]])
    (root / "broken.npy").write_bytes(b"\x93NUMPY")
    return root


@pytest.fixture(scope="module")
def url(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that may read it, where a plan of more than 10 batches is a job."""
    with reading(tmp_path_factory.mktemp("service"), root, max_plan_batches=10) as url:
        yield url


def test_a_pattern(url: str, root: Path) -> None:
    seen: list[JobInfo] = []
    with AssessorClient(url) as client:
        info = client.create_assessment("pattern", [4])
        job = client.ingest(info.id, f"file://{root}/part-*.npy")
        assert (job.kind, job.ended) == ("ingest", False)
        done = client.wait_for_job(job.id, progress=seen.append)
        assert (done.state, done.shards_done, done.shards_total, done.rows) == ("succeeded", 3, 3, 60)
        assert done.size_bytes == done.total_bytes == 60 * 5 * 4 + 3 * 128
        assert seen[-1] == done == client.get_job(job.id)
        assert all(before != after for before, after in pairwise(seen))
        # 15 batches: more than this service answers at once, so its plan comes by a job.
        assert client.plan(info.id).to_json() == assess(X, batch_size=4).to_json()
        assert client.plan(info.id).to_json() == assess(X, batch_size=4).to_json()


def test_a_list_with_places(url: str, root: Path) -> None:
    with AssessorClient(url) as client:
        info = client.create_assessment("list", [10])
        shards: list[str | Shard] = [
            Shard(2, f"file://{root}/part-2.npy", first_row=40),
            Shard(0, f"file://{root}/part-0.npy", first_row=0),
            f"file://{root}/part-1.npy",
        ]
        client.wait_for_job(client.ingest(info.id, shards).id)
        found = client.get_assessment(info.id).shards
        assert found is not None
        assert [(s.index, s.first_row, s.rows) for s in found] == [(0, 0, 13), (1, 13, 27), (2, 40, 20)]
        assert client.plan(info.id).to_json() == assess(X, batch_size=10).to_json()


def test_a_part_of_a_larger_whole(url: str, root: Path) -> None:
    with AssessorClient(url) as client:
        info = client.create_assessment("part", [10])
        client.wait_for_job(client.ingest(info.id, [f"file://{root}/part-2.npy"], first_index=7, first_row=40).id)
        found = client.get_assessment(info.id)
        assert found.gaps == ((0, 40),)


def test_asyncio(url: str, root: Path) -> None:
    async def run() -> None:
        async with AsyncAssessorClient(url) as client:
            info = await client.create_assessment("asyncio", [4])
            job = await client.ingest(info.id, f"file://{root}/part-*.npy")
            seen: list[JobInfo] = []
            done = await client.wait_for_job(job.id, progress=seen.append)
            assert (done.rows, seen[-1]) == (60, done)
            assert (await client.cancel_job(job.id)).state == "succeeded"
            plan = await client.plan(info.id)
            assert plan.to_json() == assess(X, batch_size=4).to_json()

    asyncio.run(run())


def test_what_goes_wrong(url: str, root: Path) -> None:
    with AssessorClient(url) as client:
        info = client.create_assessment("wrong", [4])
        with pytest.raises(SourceNotAllowedError, match="under a prefix"):
            client.ingest(info.id, "file:///etc/*")
        with pytest.raises(assessor.SourceUriError):
            client.ingest(info.id, "nowhere")
        job = client.ingest(info.id, [f"file://{root}/broken.npy"])
        with pytest.raises(RemoteFormatError, match=r"broken\.npy: expected"):
            client.wait_for_job(job.id)
        failed = client.get_job(job.id)
        assert failed.problem is not None
        assert failed.problem["type"] == "/problems/malformed-shard"
        job = client.ingest(info.id, [f"file://{root}/none.npy"])
        with pytest.raises(assessor.SourceNotFoundError):
            client.wait_for_job(job.id)
        with pytest.raises(JobNotFoundError):
            client.get_job("0000")
        with pytest.raises(ValueError, match="expected a job's id"):
            client.get_job("../x")
        with pytest.raises(ValueError, match="expected no labels"):
            client.ingest(info.id, [Shard(0, f"file://{root}/part-0.npy", labels=[1])])


def test_waiting_and_cancelling(root: Path, tmp_path: Path) -> None:
    with reading(tmp_path, root, job_workers=0) as url, AssessorClient(url) as client:
        info = client.create_assessment("waiting", [4])
        job = client.ingest(info.id, f"file://{root}/part-*.npy")
        assert client.ingest(info.id, f"file://{root}/part-*.npy") == job
        with pytest.raises(TimeoutError, match="within 0 s; it is queued"):
            client.wait_for_job(job.id, timeout_s=0)
        assert client.cancel_job(job.id).state == "cancelled"
        with pytest.raises(JobCancelledError, match="cancelled after 0 shards"):
            client.wait_for_job(job.id)
