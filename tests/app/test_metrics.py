"""/metrics: what was done is counted, no client can make a new time series, and applications do not mix."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families as parse

from app.main import create_app
from app.observability.metrics import Metrics
from app.problems import KINDS
from app.serving import running
from app.settings import Settings
from assessor import assess
from tests.app.support import create, npy, rows


def samples(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return a metric's samples by their labels."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == name
    }


def one(text: str, name: str, **labels: str) -> float:
    """Return one sample; 0 where it does not exist."""
    return samples(text, name).get(tuple(sorted(labels.items())), 0.0)


def test_shards_plans_and_errors_are_counted(settings: Settings) -> None:
    x = rows(100)
    body = npy(x)
    plan = assess(x, batch_size=4)
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        path = create(client)
        assert client.put(f"{path}/shards/0", content=body).status_code == 201
        assert client.put(f"{path}/shards/1", content=npy(x[:, :2])).status_code == 422
        assert client.get(f"{path}/plan").status_code == 200
        assert client.post("/v1/assess?batch_size=4", content=body).status_code == 200
        text = client.get("/metrics").text
        again = client.get("/metrics").text
    assert one(text, "normgauge_ingest_bytes_total", source="upload") == 2 * len(body)
    assert one(text, "normgauge_ingest_rows_total", source="upload") == 200
    assert one(text, "normgauge_ingest_seconds_count", source="upload") == 2
    assert one(text, "normgauge_ingest_seconds_sum", source="upload") > 0
    assert one(text, "normgauge_batches_assessed_total", method="need") == 2 * len(plan)
    assert one(text, "normgauge_batches_flagged_total", method="need") == 2 * plan.normalize.sum()
    route = "/v1/assessments/{assessment_id}/shards/{index}"
    assert one(text, "normgauge_http_requests_total", method="PUT", route=route, status="201") == 1
    assert one(text, "normgauge_http_requests_total", method="PUT", route=route, status="422") == 1
    assert one(text, "normgauge_http_request_seconds_count", route=route) == 2
    assert one(text, "normgauge_problems_total", type="shape-mismatch") == 1
    assert one(text, "normgauge_http_requests_running") == 1  # the scrape itself
    assert one(again, "normgauge_http_requests_total", method="GET", route="/metrics", status="200") == 1
    assert one(text, "normgauge_database_up") == 1


def test_no_client_makes_new_time_series(settings: Settings) -> None:
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        before = client.get("/metrics").text
        for number in range(20):
            client.get(f"/nowhere/{number}")
            client.get(f"/v1/assessments/{number}")
            client.request(f"VERB{number}", "/livez")
            client.get("/livez", headers={"X-Request-ID": f"id-{number}"})
        first = client.get("/metrics").text
        for number in range(20, 40):
            client.get(f"/nowhere/{number}")
            client.get(f"/v1/assessments/{number}")
            client.request(f"VERB{number}", "/livez")
        second = client.get("/metrics").text

    def series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(sample.name, tuple(sample.labels.items())) for family in parse(text) for sample in family.samples}

    assert series(before) < series(first) == series(second)
    labels = {dict(key).get("route") for key in samples(second, "normgauge_http_requests_total")}
    assert labels == {"unmatched", "/v1/assessments/{assessment_id}", "/livez", "/metrics"}
    assert {dict(key)["type"] for key in samples(second, "normgauge_problems_total")} <= set(KINDS)


def test_two_applications_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.planned(assess(np.eye(8, dtype=np.float32), batch_size=4))
    assert one(first.text().decode(), "normgauge_batches_assessed_total", method="need") == 2
    assert one(second.text().decode(), "normgauge_batches_assessed_total", method="need") == 0


def test_metrics_answer_without_the_database(settings: Settings) -> None:
    application = create_app(settings)

    async def scrape() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            folder = Path(settings.database_url.removeprefix("sqlite:///")).parent
            folder.rename(folder.with_name(f"{folder.name}-gone"))  # before: a job's worker may connect at any time
            application.state.service.store.close()  # the connections in the pool, which still hold the file
            return await client.get("/metrics")

    response = asyncio.run(scrape())
    assert response.status_code == 200
    assert one(response.text, "normgauge_database_up") == 0
