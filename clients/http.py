"""AssessorClient: a synchronous driver of `clients.calls` over httpx."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from assessor import Plan, SampleOrder
from clients import calls, jobs
from clients.calls import Call, Request, Response, Wait
from clients.jobs import JobInfo, Watch
from clients.resources import AssessmentInfo, ShardInfo
from clients.retry import Backoff
from clients.uploading import Shard, by_index, found_stored, uploaded_by_threads
from clients.wire import (
    as_backoff,
    as_failure,
    as_response,
    client_options,
    request_arguments,
    sending_to,
    shown_url,
)

T = TypeVar("T")


class AssessorClient:
    """A connection to a normgauge service.

    Args:
        base_url: of the service, such as "http://127.0.0.1:8000".
        api_key: sent as a bearer token; appears in no repr and no error.
        transport: an httpx transport, for tests and proxies.
        timeout_s: longest silence of the service while it answers or takes a piece.
        retries: repetitions of requests that are safe to repeat (GET, `assess`, a shard whose data can be read
            again) after a cut connection or a 429, 502, 503 or 504, with exponential backoff and jitter; of others
            only where the service was not reached or turned them away (429). A `Backoff` sets the delays too.
        compress: of shards: "zstd", "gzip", None, or "auto": zstd where a shard's first 2 MiB shrink to half and the
            service is on another machine.
        content_digest: send the SHA-256 of a shard ahead of it, so that damage on the way is refused.

    Use it as a context manager, or call `close`. Methods raise ServiceError subclasses for what
    the service refuses and ServiceUnavailableError where it does not answer.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        *,
        timeout_s: float = 300.0,
        retries: int | Backoff = 3,
        compress: str | None = None,
        content_digest: bool = True,
    ) -> None:
        self._where = shown_url(base_url)
        self._sending = sending_to(base_url, compress, content_digest)
        self._backoff = as_backoff(retries)
        self._http = httpx.Client(**client_options(base_url, api_key, timeout_s), transport=transport)

    def assess(
        self,
        x: Any,
        *,
        batch_size: int,
        labels: Any = None,
        method: str = "need",
        threshold: float | str | None = None,
        drop_last: bool = False,
        **options: Any,
    ) -> Plan:
        """Return the plan of one array, path or stream (see `put_shard`); nothing is kept."""
        return self._run(
            calls.assess(
                x,
                labels,
                batch_size=batch_size,
                method=method,
                threshold=threshold,
                drop_last=drop_last,
                options=options,
                sending=self._sending,
            )
        )

    def create_assessment(
        self,
        name: str,
        batch_sizes: int | Sequence[int],
        *,
        method: str = "need",
        feature_axis: str = "element",
        nonfinite: str = "raise",
        order: SampleOrder = SampleOrder.ROWS,
    ) -> AssessmentInfo:
        """Return a new assessment; its shards hold the dataset's rows in `order`."""
        return self._run(
            calls.create_assessment(
                name, batch_sizes, method=method, feature_axis=feature_axis, nonfinite=nonfinite, order=order
            )
        )

    def put_shard(
        self,
        assessment_id: str,
        index: int,
        data: Any,
        labels: Any = None,
        *,
        first_row: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ShardInfo:
        """Return what the service stored of one shard.

        The array's memory is streamed, never copied whole.

        Args:
            assessment_id: `AssessmentInfo.id`.
            index: the shard's number, from 0; shards may come in any order.
            data: an array or tensor (N, *), the path of an .npy or .safetensors file, bytes, or
                an iterable of bytes.
            labels: (N,) integers, beside an array or an .npy path.
            first_row: the row at which the shard begins; None: after the shard before it.
            progress: called with (bytes sent, bytes of the body or None) after each piece.
        """
        return self._run(
            calls.put_shard(
                assessment_id, index, data, labels, first_row=first_row, progress=progress, sending=self._sending
            )
        )

    def put_shards(
        self,
        assessment_id: str,
        shards: Iterable[Shard],
        *,
        parallel: int = 4,
        progress: Callable[[ShardInfo], None] | None = None,
    ) -> list[ShardInfo]:
        """Return what the service stored of the shards, in the order given.

        Shards that it already has, by their digest, are not sent again: after an interruption, the
        same call sends what is missing. After an error no further shard is begun.

        Args:
            assessment_id: `AssessmentInfo.id`.
            shards: as for `put_shard`; taken from the iterable as uploads become free.
            parallel: uploads at a time.
            progress: called with each shard as it is stored or found there, from this thread.
        """
        stored = by_index(self.get_assessment(assessment_id))
        return uploaded_by_threads(
            shards, lambda shard: self._put_missing(assessment_id, shard, stored), parallel, progress
        )

    def _put_missing(self, assessment_id: str, shard: Shard, stored: Mapping[int, ShardInfo]) -> ShardInfo:
        call = calls.put_shard(
            assessment_id, shard.index, shard.data, shard.labels, first_row=shard.first_row, sending=self._sending
        )
        there = found_stored(call, shard, stored)
        return self._run(call) if there is None else there

    def ingest(
        self,
        assessment_id: str,
        uris: str | Iterable[str | Shard],
        *,
        first_index: int = 0,
        first_row: int | None = None,
    ) -> JobInfo:
        """Return the job that stores objects of a store, or files of the server, as shards; it has just begun.

        The service reads what lies under prefixes that its operator allowed. Asked for again, it finds what is stored
        and stores what is missing.

        Args:
            assessment_id: `AssessmentInfo.id`.
            uris: a pattern such as "s3://bucket/folder/*.npy", whose objects are taken in the order of their keys; or
                URIs in their order, or `Shard`s with a URI as their data.
            first_index: of the first shard.
            first_row: the row at which the first shard begins; None: after the shard before it.
        """
        return self._run(jobs.ingest(assessment_id, uris, first_index=first_index, first_row=first_row))

    def get_job(self, job_id: str) -> JobInfo:
        """Return a job as it is now."""
        return self._run(jobs.get_job(job_id))

    def wait_for_job(
        self, job_id: str, *, progress: Callable[[JobInfo], None] | None = None, timeout_s: float | None = None
    ) -> JobInfo:
        """Return a job when it has succeeded.

        Args:
            job_id: `JobInfo.id`.
            progress: called with the job each time something has changed.
            timeout_s: longest time to wait; None: as long as it takes.

        Raises:
            ServiceError: it failed; the class is that of its problem.
            JobCancelledError: it was cancelled.
            TimeoutError: it takes longer; it goes on at the service.
        """
        watch = Watch(progress, timeout_s)
        while True:
            job = self.get_job(job_id)
            wait_s = watch.look(job)
            if wait_s is None:
                return job
            time.sleep(wait_s)

    def cancel_job(self, job_id: str) -> JobInfo:
        """Return a job that is being cancelled, or has ended; what it stored stays."""
        return self._run(jobs.cancel_job(job_id))

    def plan(
        self,
        assessment_id: str,
        *,
        batch_size: int | None = None,
        method: str | None = None,
        threshold: float | str | None = None,
        drop_last: bool = False,
        **options: Any,
    ) -> Plan:
        """Return the plan for what has come in.

        Args:
            assessment_id: `AssessmentInfo.id`.
            batch_size: one of those profiled; None where there is only one.
            method: None for the assessment's own.
            threshold: a cutoff, or a threshold's name such as "null(0.01)"; None for the method's.
            drop_last: leave out the last batch where it is not full.
            **options: of the method: null= for heterogeneity, published_exact= for published; network= of the advice.
        """
        answer = self._run(
            calls.plan(
                assessment_id,
                batch_size=batch_size,
                method=method,
                threshold=threshold,
                drop_last=drop_last,
                options=options,
                read=jobs.read_plan_or_job,
            )
        )
        if isinstance(answer, Plan):
            return answer
        made = self.wait_for_job(answer.id)
        return self._run(jobs.plan_of_job(made.id))

    def get_assessment(self, assessment_id: str) -> AssessmentInfo:
        """Return an assessment with the shards that have come in."""
        return self._run(calls.get_assessment(assessment_id))

    def list_assessments(self) -> Iterator[AssessmentInfo]:
        """Yield all assessments, newest first, fetching page after page."""
        cursor: str | None = None
        while True:
            page, cursor = self._run(calls.list_assessments(cursor))
            yield from page
            if cursor is None:
                return

    def delete_assessment(self, assessment_id: str) -> None:
        """Remove an assessment and all that was stored for it."""
        self._run(calls.delete_assessment(assessment_id))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where!r})"

    def _run(self, call: Call[T]) -> T:
        steps = calls.exchange(call, where=self._where, backoff=self._backoff)
        step = next(steps)
        while True:
            response = None
            if isinstance(step, Wait):
                time.sleep(step.seconds)
            else:
                response = self._send(step)
            try:
                step = steps.send(response)
            except StopIteration as end:
                answer: T = end.value
                return answer

    def _send(self, request: Request) -> Response:
        try:
            answer = self._http.request(**request_arguments(request), content=request.body)
        except httpx.RequestError as error:
            return as_failure(error)
        return as_response(answer)
