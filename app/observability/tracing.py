"""OpenTelemetry traces, by the setting `tracing`: one span a request, without its query, body or headers.

Where the spans go, and how many are sampled, is said by OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, ... A caller's `traceparent` is continued.
"""

import os
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observability.logs import CONTEXT
from app.observability.requests import PROBES

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_WHOLE = "normgauge.whole_scope"
INSTALL = "expected OpenTelemetry, which NORMGAUGE_TRACING needs; run: pip install 'normgauge[otel]'"


def make_provider() -> "TracerProvider":
    """Return a provider that sends spans to an OTLP collector over HTTP, in batches, in a thread of its own.

    Raises:
        ImportError: the extra otel is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ImportError(INSTALL) from error
    # What is passed to `create` goes before its own variable, OTEL_SERVICE_NAME.
    name = os.environ.get("OTEL_SERVICE_NAME", "normgauge")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class TracingMiddleware:
    """One span a request, named by method and route; probes have none."""

    def __init__(self, app: ASGIApp, *, provider: "TracerProvider") -> None:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.metrics import NoOpMeterProvider

        self._app = app
        self._traced: Any = OpenTelemetryMiddleware(
            self._resume,
            tracer_provider=provider,
            meter_provider=NoOpMeterProvider(),  # metrics are Prometheus'
            exclude_spans=["receive", "send"],  # else one for every piece of a shard
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application below within a span."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        # The span's attributes are made from a scope without query and headers other than the trace's.
        kept = [(name, value) for name, value in scope["headers"] if name in (b"traceparent", b"tracestate", b"host")]
        await self._traced({**scope, "query_string": b"", "headers": kept, _WHOLE: scope}, receive, send)

    async def _resume(self, bare: Scope, receive: Receive, send: Send) -> None:
        from opentelemetry import trace

        scope = bare[_WHOLE]
        span = trace.get_current_span()
        context = CONTEXT.set({**CONTEXT.get(), "trace_id": f"{span.get_span_context().trace_id:032x}"})

        async def send_named(message: Message) -> None:
            # By now the route is known, and the span is still open.
            route = getattr(scope.get("route"), "path", None)
            if message["type"] == "http.response.start" and route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            CONTEXT.reset(context)
