"""The clients against the real service, in both directions."""

import asyncio
import io
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch

import assessor
from assessor import SampleOrder, assess, profile_array
from clients import (
    AssessedLoader,
    AssessorClient,
    AsyncAssessorClient,
    LoaderError,
    ServiceUnavailableError,
    Shard,
    errors,
)

from .datasets import Pairs, two_sources

X, Y = two_sources(75)


@pytest.mark.parametrize("method", ["need", "heterogeneity", "published"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_plan_travels_unchanged(service_url: str, method: str, drop_last: bool) -> None:
    local = assess(X, batch_size=4, labels=Y, method=method, drop_last=drop_last)
    with AssessorClient(service_url) as client:
        remote = client.assess(X, batch_size=4, labels=Y, method=method, drop_last=drop_last)
    assert remote.to_json() == local.to_json()


def test_options_reach_the_assessor(service_url: str) -> None:
    images = np.random.default_rng(0).normal(1, 1, size=(20, 4, 4))
    with AssessorClient(service_url) as client:
        for options in (
            {"method": "published", "published_exact": True},
            {"method": "heterogeneity", "null": "normal", "threshold": "null(0.05)"},
            {"method": "need", "threshold": 0.25, "feature_axis": "channel"},
        ):
            remote = client.assess(images, batch_size=4, **options)
            assert remote.to_json() == assess(images, batch_size=4, **options).to_json()


@pytest.mark.parametrize("nonfinite", ["exclude", "normalize"])
def test_samples_that_are_not_finite_reach_the_assessor(service_url: str, nonfinite: str) -> None:
    x = X.copy()
    x[5, 3] = np.nan
    with pytest.raises(assessor.NonFiniteError, match="sample 5"):
        _ = AssessedLoader(Pairs(x, Y), batch_size=4, reshuffle=False, shuffle=False).plan
    local = assess(x, batch_size=4, labels=Y, nonfinite=nonfinite)
    assert local[1].normalize or nonfinite == "exclude"
    with AssessorClient(service_url) as client:
        info = client.create_assessment("not finite", 4, nonfinite=nonfinite)
        client.put_shard(info.id, 0, x, Y)
        assert client.get_assessment(info.id).nonfinite == nonfinite
        assert client.plan(info.id, batch_size=4).to_json() == local.to_json()
        assert client.assess(x, batch_size=4, labels=Y, nonfinite=nonfinite).to_json() == local.to_json()
    for service in (None, service_url):
        loader = AssessedLoader(Pairs(x, Y), batch_size=4, shuffle=False, nonfinite=nonfinite, service=service)
        assert [d.normalize for d in loader.plan] == [d.normalize for d in local]
        assert loader.plan.scores.tobytes() == local.scores.tobytes()


@pytest.mark.parametrize("method", ["need", "published"])
def test_shards_in_any_order_with_labels(service_url: str, method: str) -> None:
    order = SampleOrder.shuffled(3)
    ids = order.ids(len(X))
    with AssessorClient(service_url) as client:
        info = client.create_assessment("shards", [4, 7], method=method, order=order)
        cuts = [0, 13, 14, 50, 75]
        for index in (2, 0, 3, 1):
            rows = ids[cuts[index] : cuts[index + 1]]
            shard = client.put_shard(info.id, index, X[rows], Y[rows], first_row=cuts[index])
            assert (shard.rows, shard.first_row, shard.labelled) == (len(rows), cuts[index], True)
        again = client.put_shard(info.id, 1, X[ids[13:14]], Y[ids[13:14]], first_row=13)
        assert again.rows == 1
        state = client.get_assessment(info.id)
        assert (state.rows, state.order, state.gaps) == (75, order, ())
        assert state.shards is not None
        assert [shard.index for shard in state.shards] == [0, 1, 2, 3]
        assert info.id in {item.id for item in client.list_assessments()}
        profile = assessor.profile_array(X[ids], batch_sizes=[4, 7], labels=Y[ids])
        for batch_size in (4, 7):
            local = assessor.make_plan(profile, method=method, batch_size=batch_size, order=order)
            assert client.plan(info.id, batch_size=batch_size).to_json() == local.to_json()
        client.delete_assessment(info.id)
        with pytest.raises(errors.AssessmentNotFoundError):
            client.get_assessment(info.id)


def bodies(folder: Path) -> list[tuple[Any, Any]]:
    np.save(folder / "x.npy", X)
    safetensors.numpy.save_file({"x": X, "y": Y}, folder / "x.safetensors")
    whole = io.BytesIO()
    np.save(whole, X)
    content = whole.getvalue()
    return [
        (X, Y),
        (np.asfortranarray(X), Y),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (folder / "x.npy", Y),
        (folder / "x.safetensors", None),
        (str(folder / "x.npy"), None),
        (content, None),
        (iter([content[:10], content[10:]]), None),
    ]


def test_every_kind_of_data(service_url: str, tmp_path: Path) -> None:
    local = assess(X, batch_size=4).to_json()
    with AssessorClient(service_url) as client:
        for data, labels in bodies(tmp_path):
            assert client.assess(data, labels=labels, batch_size=4).to_json() == local


def test_numbers_in_lists(service_url: str) -> None:
    rows = X[:8].astype(np.float64)
    with AssessorClient(service_url) as client:
        plan = client.assess(rows.tolist(), labels=Y[:8].tolist(), batch_size=4)
        assert plan.to_json() == assess(rows, batch_size=4).to_json()
        info = client.create_assessment("one size", 4)
        assert info.batch_sizes == (4,)
        assert client.put_shard(info.id, 0, tuple(map(tuple, rows.tolist()))).rows == 8
        client.delete_assessment(info.id)
        with pytest.raises(assessor.ShapeError, match="expected rows of one shape in a list"):
            client.assess([[1.0, 2.0], [3.0]], batch_size=2)
        with pytest.raises(assessor.DtypeError):
            client.assess(["a", "b"], batch_size=2)
        odd: list[Any] = ["48", 4.5, [[4]], [], None]
        for sizes in odd:
            with pytest.raises(assessor.SettingError, match="batch_sizes to be an integer or several"):
                client.create_assessment("odd", sizes)


def test_asynchronous_client(service_url: str) -> None:
    async def main() -> None:
        async with AsyncAssessorClient(service_url) as client:
            info = await client.create_assessment("async", [4])
            halves = [client.put_shard(info.id, i, X[s], Y[s], first_row=s.start) for i, s in enumerate(HALVES)]
            await asyncio.gather(*halves)
            plan = await client.plan(info.id)
            assert plan.to_json() == assess(X, batch_size=4, labels=Y).to_json()
            assert (await client.get_assessment(info.id)).rows == 75
            assert info.id in [item.id async for item in client.list_assessments()]
            with pytest.raises(errors.ShardConflictError):
                await client.put_shard(info.id, 0, X[:5], first_row=0)
            await client.delete_assessment(info.id)

    asyncio.run(main())


HALVES = [slice(0, 31), slice(31, 75)]


@pytest.mark.parametrize(
    ("data", "labels", "error"),
    [
        (np.zeros((0, 3)), None, errors.RemoteEmptyShardError),
        (b"no shard", None, errors.RemoteFormatError),
        (np.full((4, 2), np.nan), None, errors.RemoteNonFiniteError),
    ],
)
def test_refused_shards(service_url: str, data: Any, labels: Any, error: type[Exception]) -> None:
    with AssessorClient(service_url) as client:
        with pytest.raises(error):
            client.assess(data, labels=labels, batch_size=4)
        info = client.create_assessment("refused", [4])
        with pytest.raises(error):
            client.put_shard(info.id, 0, data, labels)
        assert client.get_assessment(info.id).rows == 0


def test_other_refusals(service_url: str) -> None:
    with AssessorClient(service_url) as client:
        info = client.create_assessment("refusals", [4])
        with pytest.raises(errors.RemoteGapError):
            client.plan(info.id)
        with pytest.raises(errors.FirstRowNeededError):
            client.put_shard(info.id, 1, X)
        client.put_shard(info.id, 0, X)
        with pytest.raises(errors.ShardConflictError):
            client.put_shard(info.id, 0, X[1:])
        with pytest.raises(errors.RemoteOverlapError):
            client.put_shard(info.id, 5, X, first_row=2)
        with pytest.raises(errors.RemoteShapeError):
            client.put_shard(info.id, 5, X[:, :2], first_row=75)
        with pytest.raises(errors.RemoteUnknownNameError, match="need"):
            client.plan(info.id, method="best")
        with pytest.raises(errors.UnknownParameterError):
            client.plan(info.id, colour="red")
        with pytest.raises(errors.RemoteSettingError):
            client.create_assessment("refusals", [0])
        client.delete_assessment(info.id)


def test_no_service_at_all() -> None:
    with (
        AssessorClient("http://127.0.0.1:9", retries=0) as client,
        pytest.raises(ServiceUnavailableError, match=r"http://127\.0\.0\.1:9"),
    ):
        client.get_assessment("a1")


@pytest.mark.parametrize("labelled", [False, True])
def test_an_upload_copies_nothing(service_url: str, labelled: bool) -> None:
    """The service runs in this process, so its own pieces are in the figure too."""
    x = np.random.default_rng(0).normal(size=(16_000, 1000)).astype(np.float32)  # 64 MB
    y = np.zeros(len(x), np.int64) if labelled else None
    with AssessorClient(service_url) as client:
        info = client.create_assessment("large", [1000])
        tracemalloc.start()
        try:
            client.put_shard(info.id, 0, x, y)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        client.delete_assessment(info.id)
    assert peak < x.nbytes


@pytest.mark.parametrize("as_url", [True, False])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_against_the_service(
    service_url: str, as_url: bool, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.remote.SHARD_BYTES", 200)  # many shards
    monkeypatch.setattr("clients.reading._BLOCK_ROWS", 11)
    dataset = Pairs(X, Y)
    seed = 5 + num_workers + as_url  # an order of its own: an assessment that another test left is found again
    here = AssessedLoader(dataset, 4, method="published", threshold=0.7, seed=seed)
    with AssessorClient(service_url) as client:
        before = {info.id for info in client.list_assessments()}
        there = AssessedLoader(
            dataset,
            4,
            service=service_url if as_url else client,
            method="published",
            threshold=0.7,
            seed=seed,
            num_workers=num_workers,
        )
        assert there.plan.to_json() == here.plan.to_json()
        (made,) = [info for info in client.list_assessments() if info.id not in before]
        shards = client.get_assessment(made.id).shards
        assert shards is not None
        assert len(shards) == 7
        assert all(shard.labelled for shard in shards)


def test_a_measure_by_name_at_the_service(service_url: str) -> None:
    options: dict[str, Any] = {"method": "bartlett", "threshold": "quantile(0.7)"}
    there = AssessedLoader(Pairs(X, Y), 4, service=service_url, **options)
    assert there.plan.to_json() == AssessedLoader(Pairs(X, Y), 4, **options).plan.to_json()
    with pytest.raises(LoaderError, match=r"expected reference .* got one beside service="):
        AssessedLoader(Pairs(X, Y), 4, service=service_url, reference=profile_array(X, batch_sizes=[4]))


def test_a_failed_assessment_leaves_nothing_on_the_service(service_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.remote.SHARD_BYTES", 200)
    monkeypatch.setattr("clients.reading._BLOCK_ROWS", 11)
    x = X.copy()
    x[60] = np.nan
    with AssessorClient(service_url) as client:
        before = {info.id for info in client.list_assessments()}
        for service in (client, service_url):
            with pytest.raises(assessor.NonFiniteError, match="sample 60 of the dataset"):
                assert AssessedLoader(Pairs(x, Y), 4, service=service, shuffle=False).plan
            with pytest.raises(assessor.UnknownNameError):
                assert AssessedLoader(Pairs(X, Y), 4, service=service, method="best").plan
        assert {info.id for info in client.list_assessments()} == before


@pytest.mark.parametrize("compress", [None, "zstd", "gzip"])
def test_compressed_shards_are_the_same_shards(service_url: str, compress: str | None) -> None:
    with AssessorClient(service_url, compress=compress) as client, AssessorClient(service_url) as plain:
        info = client.create_assessment("compressed", [4])
        stored = client.put_shard(info.id, 0, X, Y)
        assert plain.put_shard(info.id, 0, X, Y) == stored
        assert client.plan(info.id).to_json() == assess(X, batch_size=4, labels=Y).to_json()
        assert client.assess(X, batch_size=4).to_json() == assess(X, batch_size=4).to_json()
        [again] = client.put_shards(info.id, [Shard(0, X, Y)])
        assert again == stored


def test_asynchronous_client_compresses(service_url: str) -> None:
    async def run() -> None:
        async with AsyncAssessorClient(service_url, compress="zstd") as client:
            info = await client.create_assessment("compressed", [4])
            await client.put_shard(info.id, 0, X, Y)
            plan = await client.plan(info.id)
            assert plan.to_json() == assess(X, batch_size=4, labels=Y).to_json()

    asyncio.run(run())


def test_damaged_on_the_way(service_url: str) -> None:
    """What a proxy changed is refused, not stored."""

    class Damaging(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PUT":
                body = bytearray(request.read())
                body[-1] ^= 1
                request = httpx.Request(request.method, request.url, headers=request.headers, content=bytes(body))
            return super().handle_request(request)

    with AssessorClient(service_url, transport=Damaging()) as client:
        info = client.create_assessment("damaged", [4])
        with pytest.raises(errors.DigestMismatchError, match="expected a body whose sha-256 is"):
            client.put_shard(info.id, 0, X)
        assert client.get_assessment(info.id).shards == ()
