"""PUT of a shard: what is stored, where its rows lie, what happens when it comes again."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from blake3 import blake3
from xxhash import xxh3_128

from app.serving import running
from app.settings import Settings
from assessor import assess
from tests.app.support import check_problem, create, npy, rows, safetensors

pytestmark = pytest.mark.databases


def test_summary_and_state(client: httpx.Client, assessment: str) -> None:
    body = safetensors(rows(10), np.arange(10))
    response = client.put(f"{assessment}/shards/0", content=body)
    assert response.status_code == 201
    summary = {
        "index": 0,
        "first_row": 0,
        "rows": 10,
        "digest": f"xxh3-128:{xxh3_128(body).hexdigest()}",
        "size_bytes": len(body),
        "sample_shape": [6],
        "dtype": "float32",
        "labelled": True,
    }
    assert response.json() == summary
    state = client.get(assessment).json()
    assert (state["rows"], state["gaps"], state["shards"]) == (10, [], [summary])


def test_first_row_follows_from_the_shard_before(client: httpx.Client, assessment: str) -> None:
    for index, n in enumerate((3, 5, 2)):
        response = client.put(f"{assessment}/shards/{index}", content=npy(rows(n)))
        assert response.status_code == 201
    assert [shard["first_row"] for shard in client.get(assessment).json()["shards"]] == [0, 3, 8]


def test_first_row_that_nothing_tells(client: httpx.Client, assessment: str) -> None:
    response = client.put(f"{assessment}/shards/3", content=npy(rows(4)))
    check_problem(response, 422, "first-row-needed", "shard 3", "got none", "?first_row=", "shard 2")
    assert client.get(assessment).json()["shards"] == []
    response = client.put(f"{assessment}/shards/3?first_row=12", content=npy(rows(4)))
    assert response.status_code == 201
    assert client.get(assessment).json()["gaps"] == [[0, 12]]


def test_same_bytes_again(client: httpx.Client, assessment: str) -> None:
    first = client.put(f"{assessment}/shards/0", content=npy(rows(4)))
    for query in ("", "?first_row=0"):
        again = client.put(f"{assessment}/shards/0{query}", content=npy(rows(4)))
        assert again.status_code == 200
        assert again.json() == first.json()
    assert len(client.get(assessment).json()["shards"]) == 1


def test_other_bytes_under_the_same_index(client: httpx.Client, assessment: str) -> None:
    stored = client.put(f"{assessment}/shards/0", content=npy(rows(4))).json()
    other = npy(rows(4, seed=1))
    response = client.put(f"{assessment}/shards/0", content=other)
    check_problem(response, 409, "shard-conflict", stored["digest"], xxh3_128(other).hexdigest(), "another index")
    assert client.get(assessment).json()["shards"] == [stored]


def test_shards_are_compared_by_the_digest_that_they_have(settings: Settings) -> None:
    """Another setting is for new shards; one that was sent before it is known again."""
    body, other = npy(rows(4)), npy(rows(4, seed=1))
    digests = {"blake3": f"blake3:{blake3(body).hexdigest()}", "xxh3-128": f"xxh3-128:{xxh3_128(body).hexdigest()}"}
    path = ""
    for index, kind in enumerate(digests):
        with running(settings.model_copy(update={"shard_digest": kind})) as url, httpx.Client(base_url=url) as client:
            path = path or create(client)
            assert client.put(f"{path}/shards/{index}", content=body).json()["digest"] == digests[kind]
            for before, there in enumerate(list(digests)[: index + 1]):
                again = client.put(f"{path}/shards/{before}", content=body)
                assert (again.status_code, again.json()["digest"]) == (200, digests[there])
                response = client.put(f"{path}/shards/{before}", content=other)
                check_problem(response, 409, "shard-conflict", digests[there], f"{there}:")


def test_same_bytes_at_other_rows(client: httpx.Client, assessment: str) -> None:
    client.put(f"{assessment}/shards/0", content=npy(rows(4)))
    response = client.put(f"{assessment}/shards/0?first_row=4", content=npy(rows(4)))
    check_problem(response, 409, "shard-conflict", "first_row 0", "first_row 4")


def test_same_index_in_parallel_is_stored_once(client: httpx.Client, assessment: str) -> None:
    bodies = [npy(rows(4, seed=seed % 2)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda body: client.put(f"{assessment}/shards/0", content=body), bodies))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200, 200, 200, 201, 409, 409, 409, 409]
    assert len(client.get(assessment).json()["shards"]) == 1


def test_overlapping_rows_in_parallel_let_one_in(client: httpx.Client, assessment: str) -> None:
    def put(index: int) -> httpx.Response:
        return client.put(f"{assessment}/shards/{index}?first_row={index}", content=npy(rows(8)))

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(put, range(8)))
    assert sorted(response.status_code for response in responses) == [201, *[409] * 7]
    refused = [response for response in responses if response.status_code == 409]
    for response in refused:
        check_problem(response, 409, "overlapping-rows", "expected rows that no shard has", "first_row")
    assert len(client.get(assessment).json()["shards"]) == 1


@pytest.mark.parametrize(("first_row", "shared"), [(0, "0 to 7"), (7, "7 to 7"), (2, "2 to 7")])
def test_overlap_names_the_rows(client: httpx.Client, assessment: str, first_row: int, shared: str) -> None:
    client.put(f"{assessment}/shards/5?first_row=0", content=npy(rows(8)))
    response = client.put(f"{assessment}/shards/1?first_row={first_row}", content=npy(rows(8)))
    check_problem(response, 409, "overlapping-rows", "got rows", shared, "shard 5", "leave this shard out")
    right = client.put(f"{assessment}/shards/1?first_row=8", content=npy(rows(8)))
    assert right.status_code == 201


def test_labels_in_some_shards_only(client: httpx.Client, assessment: str) -> None:
    client.put(f"{assessment}/shards/0", content=safetensors(rows(4), np.arange(4)))
    response = client.put(f"{assessment}/shards/1", content=npy(rows(4)))
    check_problem(response, 422, "bad-labels", "every shard or in none", "shard 0", "none in shard 1")


def test_dtypes_may_differ(client: httpx.Client, assessment: str) -> None:
    x = rows(8)
    client.put(f"{assessment}/shards/0", content=npy(x[:4]))
    client.put(f"{assessment}/shards/1", content=npy(x[4:].astype(np.float64)))
    assert client.get(f"{assessment}/plan").text == assess(x, batch_size=4).to_json()


@pytest.mark.parametrize("path", ["shards/-1", "shards/x", f"shards/{2**31}", "shards/0?first_row=-1"])
def test_bad_places(client: httpx.Client, assessment: str, path: str) -> None:
    check_problem(client.put(f"{assessment}/{path}", content=npy(rows(4))), 422, "invalid-request", "should be")


def test_limits_on_rows_features_and_shards(settings: Settings) -> None:
    limited = settings.model_copy(update={"max_rows": 20, "max_features": 6, "max_shards": 2})
    with running(limited) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        response = client.put(f"{path}/shards/0", content=npy(rows(21)))
        check_problem(response, 413, "too-many-rows", "20 rows", "row 20", "NORMGAUGE_MAX_ROWS")
        response = client.put(f"{path}/shards/9?first_row=21", content=npy(rows(1)))
        check_problem(response, 413, "too-many-rows", "20 rows", "NORMGAUGE_MAX_ROWS")
        response = client.put(f"{path}/shards/0", content=npy(rows(3, features=7)))
        check_problem(response, 413, "too-many-features", "6 values", "7", "NORMGAUGE_MAX_FEATURES")
        for index in (0, 1):
            assert client.put(f"{path}/shards/{index}", content=npy(rows(4))).status_code == 201
        response = client.put(f"{path}/shards/2", content=npy(rows(4)))
        check_problem(response, 409, "too-many-shards", "2 shards", "NORMGAUGE_MAX_SHARDS")
    with (
        running(settings.model_copy(update={"max_shards_of_key": 3})) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert client.put(f"{path}/shards/2", content=npy(rows(4))).status_code == 201
        response = client.put(f"{create(client)}/shards/0", content=npy(rows(4)))
        check_problem(response, 409, "too-many-shards-of-key", "3 shards", "NORMGAUGE_MAX_SHARDS_OF_KEY")
        assert client.get(path).json()["rows"] == 12
