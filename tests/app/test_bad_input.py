"""Every kind of bad input, sent alone and into an assessment: refused in words, with nothing left behind."""

from collections.abc import Callable
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from assessor import assess
from tests.app.support import NPY, check_problem, create, npy, rows, safetensors


class Refusal(NamedTuple):
    """A body, and the problem it must end in: its code and words of its detail."""

    body: Callable[[], bytes]
    code: str
    words: tuple[str, ...]


def with_nan() -> bytes:
    """A shard with one NaN, in row 5, element 2."""
    x = rows(8)
    x[5, 2] = np.nan
    return npy(x)


def with_infinity() -> bytes:
    """A shard with one infinity, in row 3."""
    x = rows(8)
    x[3, 0] = -np.inf
    return npy(x)


REFUSALS = {
    "empty body": Refusal(lambda: b"", "empty-shard", ("expected a shard", "empty body", "leave this shard out")),
    "no rows": Refusal(lambda: npy(rows(0)), "empty-shard", ("at least one row", "none", "leave it out")),
    "no features": Refusal(lambda: npy(np.zeros((4, 0), np.float32)), "empty-shard", ("expected at least one",)),
    "object dtype, pickled": Refusal(
        lambda: npy(np.array([[1, "a"], [None, 2]], dtype=object), allow_pickle=True),
        "unsupported-dtype",
        ("expected numbers", "object", "pickle", "convert"),
    ),
    "pickle without npy": Refusal(
        lambda: b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05shard\x94.",
        "malformed-shard",
        ("expected a shard in a known format", "npy", r"\x80\x04", "numpy.save"),
    ),
    "text dtype": Refusal(lambda: npy(np.array([["a"], ["b"]])), "unsupported-dtype", ("expected", "<U1", "convert")),
    "complex dtype": Refusal(
        lambda: npy(np.ones((2, 2), np.complex64)), "unsupported-dtype", ("expected", "complex64", "convert")
    ),
    "no axis": Refusal(
        lambda: npy(np.array(5.0)), "shape-mismatch", ("at least one axis", "single number", "give it an axis")
    ),
    "shorter than its header": Refusal(
        lambda: npy(rows(8))[:-10],
        "malformed-shard",
        ("expected 192 bytes", "(8, 6)", "got 182", "cut off", "send it again"),
    ),
    "cut in its header": Refusal(
        lambda: npy(rows(8))[:20], "malformed-shard", ("expected an npy file", "20 bytes", "send it again")
    ),
    "cut safetensors": Refusal(
        lambda: safetensors(rows(8), np.arange(8))[:-1], "malformed-shard", ("expected 256 bytes", "got 255", "again")
    ),
    "bytes after the array": Refusal(
        lambda: npy(rows(8)) + b"\0", "malformed-shard", ("expected 192 bytes", "193 came", "one array a shard")
    ),
    "Fortran order": Refusal(
        lambda: npy(np.asfortranarray(rows(8))), "malformed-shard", ("C order", "Fortran", "ascontiguousarray")
    ),
    "NaN": Refusal(with_nan, "non-finite", ("finite", "row 5, element 2", "nan", "remove or impute")),
    "infinity": Refusal(with_infinity, "non-finite", ("finite", "row 3, element 0", "-inf", "remove or impute")),
    "labels of another length": Refusal(
        lambda: safetensors(rows(8), np.arange(7)), "bad-labels", ("one label a row", "8", "(7,)")
    ),
    "labels that are no integers": Refusal(
        lambda: safetensors(rows(8), np.ones(8, np.float32)), "bad-labels", ("integer", "float32")
    ),
}


@pytest.fixture(params=REFUSALS)
def refusal(request: pytest.FixtureRequest) -> Refusal:
    """One kind of bad shard."""
    return REFUSALS[request.param]


def test_assess_refuses(client: httpx.Client, refusal: Refusal) -> None:
    response = client.post("/v1/assess?batch_size=4", content=refusal.body())
    check_problem(response, 422, refusal.code, *refusal.words)


def test_put_refuses_and_stores_nothing(client: httpx.Client, assessment: str, refusal: Refusal) -> None:
    response = client.put(f"{assessment}/shards/0", content=refusal.body())
    check_problem(response, 422, refusal.code, *refusal.words)
    state = client.get(assessment).json()
    assert (state["rows"], state["shards"]) == (0, [])
    assert client.put(f"{assessment}/shards/0", content=npy(rows(8))).status_code == 201
    assert client.get(f"{assessment}/plan").text == assess(rows(8), batch_size=4).to_json()


def test_rows_are_named_by_their_place_in_the_dataset(client: httpx.Client, assessment: str) -> None:
    response = client.put(f"{assessment}/shards/1?first_row=100", content=with_nan())
    check_problem(response, 422, "non-finite", "row 105", "batch 26 of size 4")


def test_empty_body_with_a_named_format(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4", content=b"", headers={"content-type": NPY})
    check_problem(response, 422, "empty-shard", "empty body")


@pytest.mark.parametrize("shape", [(8, 7), (8, 5), (8, 6, 1), (8, 2, 3)])
def test_other_feature_count(client: httpx.Client, assessment: str, shape: tuple[int, ...]) -> None:
    assert client.put(f"{assessment}/shards/0", content=npy(rows(8))).status_code == 201
    other = np.ones(shape, np.float32)
    response = client.put(f"{assessment}/shards/1", content=npy(other))
    check_problem(
        response, 422, "shape-mismatch", "expected samples of shape [6]", "shard 0", str(list(shape[1:])), "send"
    )
    assert [shard["index"] for shard in client.get(assessment).json()["shards"]] == [0]
    assert client.put(f"{assessment}/shards/1", content=npy(rows(8))).status_code == 201


@pytest.mark.parametrize("batch_size", ["0", "-1", "x", "1.5"])
def test_batch_size_below_one_or_no_integer(client: httpx.Client, assessment: str, batch_size: str) -> None:
    client.put(f"{assessment}/shards/0", content=npy(rows(8)))
    body = npy(rows(8))
    for response in (
        client.post(f"/v1/assess?batch_size={batch_size}", content=body),
        client.get(f"{assessment}/plan?batch_size={batch_size}"),
    ):
        assert response.status_code == 422
        assert batch_size in response.json()["detail"]
    alone = client.post("/v1/assess?batch_size=0", content=body)
    check_problem(alone, 422, "bad-setting", "expected", ">= 1", "got 0")


@pytest.mark.parametrize("method", ["magic", "", "need,heterogeneity"])
def test_unknown_method(client: httpx.Client, assessment: str, method: str) -> None:
    client.put(f"{assessment}/shards/0", content=npy(rows(8)))
    words = ("expected a method among", "need, heterogeneity, published", f"got {method!r}")
    params = {"batch_size": "4", "method": method}
    alone = client.post("/v1/assess", params=params, content=npy(rows(8)))
    check_problem(alone, 422, "unknown-name", *words)
    check_problem(client.get(f"{assessment}/plan", params=params), 422, "unknown-name", *words)


def test_missing_rows(client: httpx.Client) -> None:
    path = create(client)
    client.put(f"{path}/shards/1?first_row=10", content=npy(rows(5)))
    client.put(f"{path}/shards/3?first_row=20", content=npy(rows(5)))
    words = ("expected all rows from 0 to 24", "rows 0 to 9, 15 to 19 have not come", "send the shards")
    check_problem(client.get(f"{path}/plan"), 409, "missing-rows", *words)
    assert client.get(path).json()["gaps"] == [[0, 10], [15, 20]]
    client.put(f"{path}/shards/0?first_row=0", content=npy(rows(10)))
    client.put(f"{path}/shards/2?first_row=15", content=npy(rows(5)))
    assert client.get(f"{path}/plan").status_code == 200


def test_plan_without_any_shard(client: httpx.Client, assessment: str) -> None:
    check_problem(client.get(f"{assessment}/plan"), 409, "missing-rows", "at least one shard", "none", "shards/0")
