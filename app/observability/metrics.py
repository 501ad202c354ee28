"""Prometheus metrics of one application, in a registry of its own; every label has few values, all known here.

Routes are templates ("/v1/assessments/{assessment_id}"), methods those of HTTP, methods of assessment those registered:
no client can make a new time series.
"""

from collections.abc import Mapping
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from assessor import Plan

MEDIA_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"
"""The route of a request that no endpoint took."""

_HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_INGEST_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """All metrics of one application; safe between threads."""

    def __init__(self) -> None:
        """Make them, all zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge("normgauge_build_info", "Which version runs.", ["version"], registry=self.registry)
        build.labels(version("normgauge")).set(1)
        self._requests = self._counter("http_requests", "Requests answered.", "method", "route", "status")
        self._seconds = self._histogram(
            "http_request_seconds", "Time from a request's head to its answer's end.", _REQUEST_SECONDS, "route"
        )
        self._running = self._gauge("http_requests_running", "Requests being worked on.")
        self._problems = self._counter("problems", "Problem documents answered.", "type")
        self._ingest_bytes = self._counter("ingest_bytes", "Bytes of shards profiled.", "source")
        self._ingest_rows = self._counter("ingest_rows", "Rows of shards profiled.", "source")
        self._ingest_seconds = self._histogram(
            "ingest_seconds", "Time to receive and profile one shard.", _INGEST_SECONDS, "source"
        )
        self._assessed = self._counter("batches_assessed", "Batches in the plans made.", "method")
        self._flagged = self._counter("batches_flagged", "Batches that those plans normalize.", "method")
        self._jobs = self._gauge("jobs", "Jobs in the database.", "state")
        self._database_up = self._gauge("database_up", "Whether the database answered when the metrics were read.")

    def request_began(self) -> None:
        """Count a request as running."""
        self._running.inc()

    def request_ended(self, *, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answer; a route of None is one that no endpoint took."""
        self._running.dec()
        route = route or UNMATCHED
        self._requests.labels(method if method in _HTTP_METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def problem(self, code: str) -> None:
        """Count a problem document; `code` is one of `app.problems.KINDS`."""
        self._problems.labels(code).inc()

    def ingested(self, *, size_bytes: int, n_rows: int, seconds: float, source: str = "upload") -> None:
        """Count a shard that was profiled to its end.

        Args:
            source: "upload", or "store" where the service fetched it itself.
        """
        self._ingest_bytes.labels(source).inc(size_bytes)
        self._ingest_rows.labels(source).inc(n_rows)
        self._ingest_seconds.labels(source).observe(seconds)

    def planned(self, plan: Plan) -> None:
        """Count the batches of a plan that was made for a client."""
        self._assessed.labels(plan.method).inc(len(plan))
        self._flagged.labels(plan.method).inc(int(plan.normalize.sum()))

    def set_jobs(self, by_state: Mapping[str, int]) -> None:
        """Set how many jobs there are in each state."""
        for state, count in by_state.items():
            self._jobs.labels(state).set(count)

    def set_database_up(self, up: bool) -> None:
        """Set whether the database answers."""
        self._database_up.set(int(up))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"normgauge_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"normgauge_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"normgauge_{name}", text, labels, buckets=buckets, registry=self.registry)
