"""POST /v1/assess gives the plan that the assessor gives in process, to the byte."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest

from app.serving import running
from app.settings import Settings
from app.storage import Store
from assessor import Plan, assess
from tests.app.support import NPY, SAFETENSORS, check_problem, create, npy, rows, safetensors


def test_need_is_the_default_method(client: httpx.Client) -> None:
    x = rows(37)
    response = client.post("/v1/assess?batch_size=8", content=npy(x))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.text == assess(x, batch_size=8).to_json()


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ({"method": "heterogeneity"}, {"method": "heterogeneity"}),
        ({"method": "heterogeneity", "null": "normal"}, {"method": "heterogeneity", "null": "normal"}),
        ({"threshold": "0.25"}, {"threshold": 0.25}),
        (
            {"method": "heterogeneity", "threshold": "null(0.05)"},
            {"method": "heterogeneity", "threshold": "null(0.05)"},
        ),
        ({"drop_last": "true"}, {"drop_last": True}),
    ],
)
def test_options_reach_the_assessor(client: httpx.Client, query: dict[str, str], options: dict[str, Any]) -> None:
    x = rows(37)
    response = client.post("/v1/assess", params={"batch_size": 8, **query}, content=npy(x))
    assert response.text == assess(x, batch_size=8, **options).to_json()


def test_labels_and_published_exact(client: httpx.Client) -> None:
    x = rows(40, features=12).reshape(40, 4, 3)
    y = np.arange(40) % 3
    response = client.post(
        "/v1/assess",
        params={"batch_size": 8, "method": "published", "published_exact": True},
        content=safetensors(x, y),
        headers={"content-type": SAFETENSORS},
    )
    expected = assess(x, batch_size=8, labels=y, method="published", published_exact=True)
    assert response.text == expected.to_json()


def test_feature_axis_channel(client: httpx.Client) -> None:
    x = rows(20, features=12).reshape(20, 3, 4)
    response = client.post("/v1/assess?batch_size=5&feature_axis=channel", content=npy(x))
    assert response.text == assess(x, batch_size=5, feature_axis="channel").to_json()


@pytest.mark.parametrize("content_type", [NPY, "application/octet-stream", f"{NPY}; charset=binary", None])
def test_npy_by_media_type_or_recognized(client: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = client.post("/v1/assess?batch_size=4", content=npy(rows(12)), headers=headers)
    assert response.status_code == 200


def test_safetensors_recognized(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4", content=safetensors(rows(12)))
    assert response.text == assess(rows(12), batch_size=4).to_json()


def test_chunked_body(client: httpx.Client) -> None:
    data = npy(rows(500))
    pieces = (data[start : start + 1000] for start in range(0, len(data), 1000))
    response = client.post("/v1/assess?batch_size=16", content=pieces)
    assert "content-length" not in response.request.headers
    assert response.text == assess(rows(500), batch_size=16).to_json()


def test_plan_travels_unchanged(client: httpx.Client) -> None:
    text = client.post("/v1/assess?batch_size=8", content=npy(rows(37))).text
    assert Plan.from_json(text).to_json() == text


def test_nothing_is_kept(client: httpx.Client) -> None:
    before = client.get("/v1/assessments?limit=200").json()
    client.post("/v1/assess?batch_size=8", content=npy(rows(37)))
    assert client.get("/v1/assessments?limit=200").json() == before


def test_media_type_of_another_kind(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4", content=b"1,2", headers={"content-type": "text/html"})
    check_problem(response, 415, "unsupported-media-type", "expected", NPY, "text/html", "leave the header out")


def test_unknown_content_encoding(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4", content=b"", headers={"content-encoding": "br"})
    check_problem(response, 415, "unsupported-encoding", "expected", "zstd, gzip", "got 'br'", "compress")
    assert response.headers["accept-encoding"] == "zstd, gzip, identity"


def test_media_type_that_the_body_belies(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4", content=safetensors(rows(4)), headers={"content-type": NPY})
    check_problem(response, 422, "malformed-shard", "expected an npy file")


def test_batch_size_is_required(client: httpx.Client) -> None:
    response = client.post("/v1/assess", content=npy(rows(4)))
    problem = check_problem(response, 422, "invalid-request", "query.batch_size", "required", "nothing", "openapi")
    assert problem["errors"][0]["where"] == "query.batch_size"


def test_mistyped_parameter_is_refused(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4&methd=need", content=npy(rows(4)))
    check_problem(response, 422, "unknown-parameter", "batch_size", "'methd'", "correct")


def test_repeated_parameter_is_refused(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4&batch_size=8", content=npy(rows(4)))
    check_problem(response, 422, "unknown-parameter", "once", "batch_size")


@pytest.mark.parametrize("threshold", ["nan", "inf", "fixed()", "otsu(", "null(2)", "__import__('os')"])
def test_threshold_that_is_none(client: httpx.Client, threshold: str) -> None:
    response = client.post("/v1/assess", params={"batch_size": 4, "threshold": threshold}, content=npy(rows(8)))
    assert response.status_code == 422
    assert "expected" in response.json()["detail"]


def test_option_of_another_method(client: httpx.Client) -> None:
    response = client.post("/v1/assess?batch_size=4&null=normal", content=npy(rows(8)))
    check_problem(response, 422, "bad-setting", "need", "null")


def test_waits_for_no_database(settings: Settings) -> None:
    """While another process holds SQLite's lock, an upload waits for it, and what stores nothing does not."""
    patient = settings.model_copy(update={"busy_timeout_s": 600.0})
    with (
        running(patient) as url,
        httpx.Client(base_url=url, timeout=60) as client,
        closing(Store(patient)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        path, x = create(client), rows(20)
        with other.writing():
            upload = pool.submit(client.put, f"{path}/shards/0", content=npy(x))
            while 'normgauge_ingest_rows_total{source="upload"} 20.0' not in client.get("/metrics").text:
                assert not upload.done()
            plan = client.post("/v1/assess?batch_size=4", content=npy(x))
            assert plan.text == assess(x, batch_size=4).to_json()
            assert not upload.done()
        assert upload.result().status_code == 201
