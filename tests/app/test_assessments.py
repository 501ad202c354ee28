"""Assessments: created, listed in pages, looked at, removed."""

from typing import Any

import httpx
import pytest

from app.serving import running
from app.settings import Settings
from tests.app.support import check_problem, create, npy, rows

pytestmark = pytest.mark.databases


def test_create_says_where(client: httpx.Client) -> None:
    body = {"name": "digits", "batch_sizes": [32, 4, 4], "method": "published"}
    response = client.post("/v1/assessments", json=body)
    assert response.status_code == 201
    state = response.json()
    assert response.headers["location"] == f"/v1/assessments/{state['id']}"
    assert state["batch_sizes"] == [4, 32]
    assert state["order"] == {"kind": "rows"}
    assert (state["rows"], state["gaps"], state["shards"]) == (0, [], [])
    assert client.get(response.headers["location"]).json() == state


def test_order_is_kept(client: httpx.Client) -> None:
    order = {"kind": "shuffled", "seed": 7, "version": 1}
    assert client.get(create(client, order=order)).json()["order"] == order


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"batch_sizes": [0]}, "bad-setting", [">= 1", "0"]),
        ({"batch_sizes": [-4]}, "bad-setting", [">= 1", "-4"]),
        ({"batch_sizes": []}, "bad-setting", ["at least one batch size"]),
        ({"batch_sizes": [2.5]}, "invalid-request", ["body.batch_sizes.0", "integer", "2.5"]),
        ({"batch_sizes": [True]}, "invalid-request", ["body.batch_sizes.0", "integer", "True"]),
        ({"batch_sizes": "4"}, "invalid-request", ["body.batch_sizes", "list", "'4'"]),
        ({"name": ""}, "invalid-request", ["body.name", "at least 1 character"]),
        ({"name": "x" * 201}, "invalid-request", ["body.name", "at most 200"]),
        ({"method": "magic"}, "unknown-name", ["need, heterogeneity, published", "magic"]),
        ({"feature_axis": "rows"}, "bad-setting", ["element", "rows"]),
        ({"order": {"kind": "sorted"}}, "malformed-plan", ["shuffled", "sorted"]),
        ({"order": {"kind": "shuffled", "seed": 1, "version": 9}}, "malformed-plan", ["version", "9"]),
        ({"batchsizes": [4]}, "invalid-request", ["body.batchsizes", "not permitted"]),
    ],
)
def test_bad_fields(client: httpx.Client, fields: dict[str, Any], code: str, words: list[str]) -> None:
    body = {"name": "test", "batch_sizes": [4]} | fields
    check_problem(client.post("/v1/assessments", json=body), 422, code, *words)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": "x"'])
def test_body_that_is_no_object(client: httpx.Client, text: str) -> None:
    response = client.post("/v1/assessments", content=text, headers={"content-type": "application/json"})
    check_problem(response, 422, "invalid-request", "body", "got", "openapi")


def test_body_without_media_type(client: httpx.Client) -> None:
    response = client.post("/v1/assessments", content=b'{"name": "x", "batch_sizes": [4]}')
    check_problem(response, 415, "unsupported-media-type", "application/json", "'none'", "set the header")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"name": "x",\n "batch_sizes": [4}', ("line 2, column 19", "Expecting ',' delimiter", "'}'")),
        (b'{"name": "x"', ("line 1, column 13", "the end of the body")),
        (b"name=x&batch_sizes=4", ("line 1, column 1:", "Expecting value", "'name=x&batch_sizes=4'")),
    ],
)
def test_what_is_no_json_is_told_with_its_place(client: httpx.Client, text: bytes, words: tuple[str, ...]) -> None:
    response = client.post("/v1/assessments", content=text, headers={"content-type": "application/json"})
    check_problem(response, 422, "invalid-request", "body: expected JSON", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"name": "\xff"}', ("expected JSON in UTF-8", "0xff", "position 10")),
        (b"[" * 200_000, ("nested too deeply",)),
    ],
)
def test_json_that_cannot_be_read_is_refused_in_words(
    client: httpx.Client, text: bytes, words: tuple[str, ...]
) -> None:
    response = client.post("/v1/assessments", content=text, headers={"content-type": "application/json"})
    check_problem(response, 400, "bad-request", *words)


def test_large_json_is_not_read(client: httpx.Client) -> None:
    response = client.post("/v1/assessments", json={"name": "x" * 2**20, "batch_sizes": [4]})
    check_problem(response, 413, "json-too-large", "1048576", "NORMGAUGE_MAX_JSON_BYTES")


def test_limits_on_batch_sizes(settings: Settings) -> None:
    limited = settings.model_copy(update={"max_batch_size": 64, "max_batch_sizes": 2})
    with running(limited) as url, httpx.Client(base_url=url, timeout=60) as client:
        response = client.post("/v1/assessments", json={"name": "x", "batch_sizes": [65]})
        check_problem(response, 422, "batch-size-too-large", "64", "65", "NORMGAUGE_MAX_BATCH_SIZE")
        response = client.post("/v1/assessments", json={"name": "x", "batch_sizes": [1, 2, 3]})
        check_problem(response, 422, "too-many-batch-sizes", "2", "3", "NORMGAUGE_MAX_BATCH_SIZES")
        response = client.post("/v1/assess?batch_size=65", content=npy(rows(4)))
        check_problem(response, 422, "batch-size-too-large", "64", "65")


def test_pages_hold_each_assessment_once_newest_first(settings: Settings) -> None:
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        ids = [create(client, name=str(number)).rpartition("/")[2] for number in range(5)]
        assert client.get("/v1/assessments").json()["next_cursor"] is None
        listed, sizes, cursor = [], [], None
        while True:
            params = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
            page = client.get("/v1/assessments", params=params).json()
            listed += [item["id"] for item in page["assessments"]]
            sizes.append(len(page["assessments"]))
            if cursor is None:
                # Neither a newer one nor the removal of the one at the border shifts the pages after.
                create(client, name="newer")
                client.delete(f"/v1/assessments/{ids[3]}")
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert listed == ids[::-1]
        assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", ["query.limit", "greater than or equal to 1"]),
        ("limit=201", ["query.limit", "less than or equal to 200"]),
        ("cursor=7", ["cursor", "'7'"]),
        ("cursor=n-1", ["cursor", "'n-1'"]),
        ("cursor=n99999999999999999999", ["cursor"]),
    ],
)
def test_bad_page(client: httpx.Client, query: str, words: list[str]) -> None:
    check_problem(client.get(f"/v1/assessments?{query}"), 422, "invalid-request", *words)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/assessments/%00", "assessment-not-found"),
        ("DELETE", "/v1/assessments/a%00", "assessment-not-found"),
        ("GET", "/v1/assessments/%00/plan", "assessment-not-found"),
        ("GET", "/v1/assessments/%00/report", "assessment-not-found"),
        ("PUT", "/v1/assessments/%00/shards/0", "assessment-not-found"),
        ("GET", "/v1/jobs/%00", "job-not-found"),
        ("GET", "/v1/jobs/%00/events", "job-not-found"),
        ("GET", "/v1/jobs/%00/result", "job-not-found"),
        ("DELETE", "/v1/jobs/%00", "job-not-found"),
    ],
)
def test_ids_with_zero_characters_are_no_ones(client: httpx.Client, method: str, path: str, code: str) -> None:
    check_problem(client.request(method, path), 404, code)


@pytest.mark.parametrize("name", ["a\0b", "two\nlines", "\x1b[31mred", "\x7f"])
def test_names_have_no_control_characters(client: httpx.Client, name: str) -> None:
    response = client.post("/v1/assessments", json={"name": name, "batch_sizes": [4]})
    check_problem(response, 422, "invalid-request", "body.name", "pattern")


def test_a_cursor_beyond_all_numbers_begins_at_the_newest(client: httpx.Client, assessment: str) -> None:
    page = client.get("/v1/assessments?limit=1&cursor=n999999999999999999").json()
    assert page == client.get("/v1/assessments?limit=1").json()


def test_delete_removes_shards_too(client: httpx.Client, assessment: str) -> None:
    client.put(f"{assessment}/shards/0", content=npy(rows(8)))
    response = client.delete(assessment)
    assert (response.status_code, response.content) == (204, b"")
    shard = client.put(f"{assessment}/shards/0", content=npy(rows(8)))
    for gone in (client.get(assessment), client.delete(assessment), client.get(f"{assessment}/plan"), shard):
        check_problem(gone, 404, "assessment-not-found", "expected", assessment.rpartition("/")[2], "/v1/assessments")
