"""Traces: one span a request, named by its route, without query, headers or body; off unless asked for."""

import asyncio
import io
import json
import logging
import sys

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.main import create_app
from app.observability import tracing
from app.observability.logs import JsonFormatter
from app.settings import Settings
from tests.app.support import npy, rows


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where the spans go instead of to a collector."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "make_provider", lambda: provider)
    return exporter


def spans_of(settings: Settings, exporter: InMemorySpanExporter, *requests: httpx.Request) -> list[ReadableSpan]:
    """Return the spans of an application that answers these requests."""
    application = create_app(settings.model_copy(update={"tracing": "otlp"}))

    async def run() -> None:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with application.router.lifespan_context(application), httpx.AsyncClient(transport=transport) as client:
            for request in requests:
                await client.send(request)

    asyncio.run(run())
    return list(exporter.get_finished_spans())


def test_one_span_a_request_named_by_route(settings: Settings, exporter: InMemorySpanExporter) -> None:
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    traceparent = {"traceparent": f"00-{trace_id}-{parent_id}-01"}
    body = npy(rows(50_000, features=16))  # many pieces
    spans = spans_of(
        settings,
        exporter,
        httpx.Request("GET", "http://localhost/v1/assessments/x?secret=1", headers=traceparent),
        httpx.Request("POST", "http://localhost/v1/assess?batch_size=4", content=body, headers={"X-Data": "secret"}),
        httpx.Request("GET", "http://localhost/v1/assessments?cursor=%ff%fe"),
        httpx.Request("GET", "http://localhost/livez"),
        httpx.Request("GET", "http://localhost/metrics"),
    )
    assert [span.name for span in spans] == [
        "GET /v1/assessments/{assessment_id}",
        "POST /v1/assess",
        "GET /v1/assessments",
    ]
    for span in spans:
        assert span.attributes is not None
        assert span.attributes["http.route"] == span.name.partition(" ")[2]
        assert "secret" not in json.dumps(dict(span.attributes), default=str)
    assert spans[0].context is not None
    assert f"{spans[0].context.trace_id:032x}" == trace_id
    assert spans[0].parent is not None
    assert f"{spans[0].parent.span_id:016x}" == parent_id


def test_log_lines_have_the_trace(settings: Settings, exporter: InMemorySpanExporter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("normgauge.requests")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        (span,) = spans_of(settings, exporter, httpx.Request("GET", "http://localhost/v1/assessments"))
    finally:
        logger.removeHandler(handler)
        logger.setLevel("NOTSET")
    assert span.context is not None
    assert json.loads(stream.getvalue())["trace_id"] == f"{span.context.trace_id:032x}"


def test_provider_exports_under_the_service_name(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = tracing.make_provider()
    assert provider.resource.attributes["service.name"] == "normgauge"
    provider.shutdown()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    provider = tracing.make_provider()
    assert provider.resource.attributes["service.name"] == "ours"
    provider.shutdown()


def test_off_by_default(settings: Settings) -> None:
    application = create_app(settings)
    assert not hasattr(application.state, "tracer_provider")


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ImportError, match=r"pip install 'normgauge\[otel\]'"):
        tracing.make_provider()
