"""Plans of assessments: whatever the cutting, the order and the parallelism, the plan of a single pass."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow
import pyarrow.ipc
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.plan_answers import ARROW, ARROW_STREAM, preferred_columns
from app.problems import ProblemError
from app.profile_cache import ProfileCache
from app.records import Shard
from app.service import find_gaps
from app.settings import Settings
from assessor import Plan, make_plan, merge, profile_array
from tests.app.support import check_problem, create, npy, rows, safetensors

pytestmark = pytest.mark.databases

BATCH_SIZES = (4, 7, 32)


def cut(n: int, *, seed: int) -> list[tuple[int, int]]:
    """Return random ranges that cover [0, n), in random order."""
    rng = np.random.default_rng(seed)
    inner = rng.choice(np.arange(1, n), size=rng.integers(1, 9), replace=False)
    edges = [0, *sorted(int(edge) for edge in inner), n]
    ranges = list(pairwise(edges))
    return [ranges[i] for i in rng.permutation(len(ranges))]


@pytest.mark.parametrize("seed", range(6))
def test_parallel_shards_give_the_plan_of_a_single_pass(client: httpx.Client, seed: int) -> None:
    x = rows(203, features=12, seed=seed).reshape(203, 4, 3)
    y = np.random.default_rng(seed).integers(0, 5, 203)
    path = create(client, batch_sizes=list(BATCH_SIZES))

    def put(place: tuple[int, tuple[int, int]]) -> int:
        index, (start, stop) = place
        body = safetensors(x[start:stop].copy(), y[start:stop].copy())
        return client.put(f"{path}/shards/{index}?first_row={start}", content=body).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(put, enumerate(cut(203, seed=seed)))) == {201}
    whole = profile_array(x, labels=y, batch_sizes=BATCH_SIZES)
    for batch_size in BATCH_SIZES:
        for method in ("need", "heterogeneity", "published"):
            response = client.get(f"{path}/plan", params={"batch_size": batch_size, "method": method})
            expected = make_plan(whole, method=method, batch_size=batch_size).to_json()
            assert response.text == expected, (batch_size, method)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ({}, {"method": "heterogeneity"}),
        ({"method": "need", "threshold": "0.5"}, {"method": "need", "threshold": 0.5}),
        ({"null": "normal", "drop_last": "1"}, {"method": "heterogeneity", "null": "normal", "drop_last": True}),
        ({"method": "published", "published_exact": "no"}, {"method": "published", "published_exact": False}),
        ({"method": "bartlett", "threshold": "quantile:0.8"}, {"method": "bartlett", "threshold": "quantile(0.8)"}),
        (
            {"method": "location_share", "threshold": "otsu", "corrected": "1"},
            {"method": "location_share", "threshold": "otsu()", "corrected": True},
        ),
    ],
)
def test_method_threshold_and_options(client: httpx.Client, query: dict[str, str], options: dict[str, Any]) -> None:
    x = rows(30)
    path = create(client, method="heterogeneity", batch_sizes=[8])
    client.put(f"{path}/shards/0", content=npy(x))
    expected = make_plan(profile_array(x, batch_sizes=[8]), **options).to_json()
    assert client.get(f"{path}/plan", params=query).text == expected


@pytest.mark.parametrize("policy", ["exclude", "normalize"])
def test_rows_that_are_not_finite(client: httpx.Client, policy: str) -> None:
    x = rows(30)
    x[4, 1], x[17, 3] = np.nan, np.inf
    expected = make_plan(profile_array(x, batch_sizes=[8], nonfinite=policy)).to_json()
    path = create(client, batch_sizes=[8], nonfinite=policy)
    assert client.get(path).json()["nonfinite"] == policy
    for index, (start, stop) in enumerate(((0, 3), (3, 18), (18, 30))):
        response = client.put(f"{path}/shards/{index}?first_row={start}", content=npy(x[start:stop]))
        assert response.status_code == 201, response.text
    assert client.get(f"{path}/plan").text == expected
    query: dict[str, str | int] = {"batch_size": 8, "nonfinite": policy}
    assert client.post("/v1/assess", params=query, content=npy(x)).text == expected
    text = "\n".join(",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in x)
    headers = {"Content-Type": "text/csv"}
    response = client.post("/v1/assess", params=query, content="a,b,c,d,e,f\n" + text, headers=headers)
    assert Plan.from_json(response.text).details.keys() == Plan.from_json(expected).details.keys()
    check_problem(client.post("/v1/assess?batch_size=8", content=npy(x)), 422, "non-finite", "row 4, element 1")
    wrong = client.post("/v1/assess?batch_size=8&nonfinite=drop", content=npy(x))
    check_problem(wrong, 422, "bad-setting", "nonfinite among raise, exclude, normalize; got 'drop'")
    body = {"name": "x", "batch_sizes": [8], "nonfinite": "drop"}
    check_problem(client.post("/v1/assessments", json=body), 422, "bad-setting", "nonfinite among", "'drop'")


def test_plan_carries_the_order(client: httpx.Client) -> None:
    path = create(client, order={"kind": "shuffled", "seed": 3, "version": 1})
    client.put(f"{path}/shards/0", content=npy(rows(10)))
    plan = Plan.from_json(client.get(f"{path}/plan").text)
    assert plan.order.to_dict() == {"kind": "shuffled", "seed": 3, "version": 1}


def test_batch_size_may_be_left_out_only_where_there_is_one(client: httpx.Client) -> None:
    path = create(client, batch_sizes=[4, 8])
    client.put(f"{path}/shards/0", content=npy(rows(10)))
    check_problem(client.get(f"{path}/plan"), 422, "bad-setting", "one of those profiled (4, 8)", "none")
    check_problem(client.get(f"{path}/plan?batch_size=5"), 422, "bad-setting", "4, 8", "5")


def test_plan_in_columns(client: httpx.Client, tmp_path: Path) -> None:
    """What Accept asks for is the file that `Plan.save` writes: the same plan, from every call that answers one."""
    x = rows(203)
    path = create(client, batch_sizes=[4, 8])
    client.put(f"{path}/shards/0", content=npy(x)).raise_for_status()
    query: dict[str, str | int] = {"batch_size": 8, "threshold": "otsu"}
    expected = make_plan(profile_array(x, batch_sizes=[8]), threshold="otsu")
    expected.save(tmp_path / "expected.arrow")
    headers = {"Accept": f"{ARROW}, application/json;q=0.9"}
    kept = client.get(f"{path}/plan", params=query, headers=headers)
    alone = client.post("/v1/assess", params=query, headers=headers, content=npy(x))
    for response in (kept, alone):
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == ARROW
        assert response.headers["vary"] == "Accept"
        assert response.content == (tmp_path / "expected.arrow").read_bytes()
    for ask in (partial(client.get, f"{path}/plan"), partial(client.post, "/v1/assess", content=npy(x))):
        streamed = ask(params=query, headers={"Accept": ARROW_STREAM})
        assert (streamed.status_code, streamed.headers["content-type"]) == (200, ARROW_STREAM)
        table = pyarrow.ipc.open_stream(streamed.content).read_all()
        assert table.equals(pyarrow.ipc.open_file(kept.content).read_all(), check_metadata=True)
    (tmp_path / "came.arrow").write_bytes(kept.content)
    assert Plan.load(tmp_path / "came.arrow") == expected
    assert client.get(f"{path}/plan", params=query).text == expected.to_json()
    refused = client.get(f"{path}/plan?batch_size=5", headers=headers)
    check_problem(refused, 422, "bad-setting", "4, 8", "5")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (ARROW, "file"),
        (ARROW.upper() + " ; q=0.3", "file"),
        (f"text/html, {ARROW};q=0.5, */*;q=0.5", "file"),
        (f"{ARROW};q=0.5, application/json", None),
        (f"{ARROW};q=0.5, application/*;q=0.6", None),
        (f"{ARROW};q=0.5, application/json;q=0.1, */*", "file"),
        (f"{ARROW};q=0", None),
        (f"{ARROW};q=nonsense", None),
        (ARROW_STREAM, "stream"),
        (f"{ARROW_STREAM}, {ARROW}", "file"),
        (f"{ARROW_STREAM}, {ARROW};q=0.9, */*;q=0.1", "stream"),
        (f"{ARROW_STREAM};q=0.5, application/json", None),
        ("*/*", None),
        (";;,=,", None),
        ("", None),
    ],
)
def test_which_form_is_preferred(accept: str, expected: str | None) -> None:
    assert preferred_columns(accept) == expected


def test_unknown_parameter(client: httpx.Client, assessment: str) -> None:
    client.put(f"{assessment}/shards/0", content=npy(rows(10)))
    check_problem(client.get(f"{assessment}/plan?methd=need"), 422, "unknown-parameter", "method", "'methd'")


def test_plan_changes_with_each_shard(client: httpx.Client, assessment: str) -> None:
    x = rows(20)
    for index, stop in enumerate((8, 20)):
        start = 8 * index
        client.put(f"{assessment}/shards/{index}", content=npy(x[start:stop]))
        expected = make_plan(profile_array(x[:stop], batch_sizes=[4])).to_json()
        assert client.get(f"{assessment}/plan").text == expected


def test_cache_merges_once_and_forgets_the_oldest() -> None:
    profile = merge([profile_array(rows(8), batch_sizes=[4])])
    loads: list[str] = []
    cache = ProfileCache(2)

    def get(name: str) -> None:
        def load() -> Any:
            loads.append(name)
            return profile

        assert cache.get((name, ()), load) is profile

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name)
    assert loads == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_cache_lets_go_of_a_removed_assessment(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app, base_url="http://localhost") as client:
        body = {"name": "x", "batch_sizes": [4]}
        kept, removed = (client.post("/v1/assessments", json=body).headers["location"] for _ in range(2))
        for path in (kept, removed):
            client.put(f"{path}/shards/0", content=npy(rows(8))).raise_for_status()
            assert client.get(f"{path}/plan").status_code == 200
        cache = app.state.service.cache
        assert len(cache) == 2
        assert client.delete(removed).status_code == 204
        assert len(cache) == 1
        assert client.get(f"{kept}/plan").status_code == 200
        assert len(cache) == 1


def test_cache_keeps_nothing_of_a_failed_load() -> None:
    cache = ProfileCache(2)

    def fail() -> Any:
        raise ProblemError("assessment-not-found", "gone")

    with pytest.raises(ProblemError):
        cache.get(("a", ()), fail)
    assert len(cache) == 0


def test_find_gaps() -> None:
    def at(first_row: int, n_rows: int) -> Shard:
        return Shard(0, first_row, n_rows, "", 0, (6,), "float32", False)

    assert find_gaps([]) == []
    assert find_gaps([at(0, 5), at(5, 5)]) == []
    assert find_gaps([at(2, 3), at(5, 5), at(12, 1)]) == [(0, 2), (10, 12)]
