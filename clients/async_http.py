"""AsyncAssessorClient: an asynchronous driver of `clients.calls` over httpx."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from assessor import Plan, SampleOrder
from clients import calls, jobs
from clients.calls import Call, Request, Response, Wait
from clients.jobs import JobInfo, Watch
from clients.resources import AssessmentInfo, ShardInfo
from clients.retry import Backoff
from clients.uploading import Shard, by_index, found_stored, uploaded_by_tasks
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


class AsyncAssessorClient:
    """A connection to a normgauge service, for asyncio.

    Arguments, methods and errors are those of AssessorClient; every method is awaited, and
    `list_assessments` is an asynchronous iterator. Use it with `async with`, or await `aclose`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        timeout_s: float = 300.0,
        retries: int | Backoff = 3,
        compress: str | None = None,
        content_digest: bool = True,
    ) -> None:
        self._where = shown_url(base_url)
        self._sending = sending_to(base_url, compress, content_digest)
        self._backoff = as_backoff(retries)
        self._http = httpx.AsyncClient(**client_options(base_url, api_key, timeout_s), transport=transport)

    async def assess(
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
        return await self._run(
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

    async def create_assessment(
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
        return await self._run(
            calls.create_assessment(
                name, batch_sizes, method=method, feature_axis=feature_axis, nonfinite=nonfinite, order=order
            )
        )

    async def put_shard(
        self,
        assessment_id: str,
        index: int,
        data: Any,
        labels: Any = None,
        *,
        first_row: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ShardInfo:
        """Return what the service stored of one shard."""
        return await self._run(
            calls.put_shard(
                assessment_id, index, data, labels, first_row=first_row, progress=progress, sending=self._sending
            )
        )

    async def put_shards(
        self,
        assessment_id: str,
        shards: Iterable[Shard],
        *,
        parallel: int = 4,
        progress: Callable[[ShardInfo], None] | None = None,
    ) -> list[ShardInfo]:
        """Return what the service stored of the shards, in the order given; see `AssessorClient.put_shards`."""
        stored = by_index(await self.get_assessment(assessment_id))
        return await uploaded_by_tasks(
            shards, lambda shard: self._put_missing(assessment_id, shard, stored), parallel, progress
        )

    async def _put_missing(self, assessment_id: str, shard: Shard, stored: Mapping[int, ShardInfo]) -> ShardInfo:
        call = calls.put_shard(
            assessment_id, shard.index, shard.data, shard.labels, first_row=shard.first_row, sending=self._sending
        )
        there = await asyncio.to_thread(found_stored, call, shard, stored)
        return await self._run(call) if there is None else there

    async def ingest(
        self,
        assessment_id: str,
        uris: str | Iterable[str | Shard],
        *,
        first_index: int = 0,
        first_row: int | None = None,
    ) -> JobInfo:
        """Return the job that stores objects as shards; see `AssessorClient.ingest`."""
        return await self._run(jobs.ingest(assessment_id, uris, first_index=first_index, first_row=first_row))

    async def get_job(self, job_id: str) -> JobInfo:
        """Return a job as it is now."""
        return await self._run(jobs.get_job(job_id))

    async def wait_for_job(
        self, job_id: str, *, progress: Callable[[JobInfo], None] | None = None, timeout_s: float | None = None
    ) -> JobInfo:
        """Return a job when it has succeeded; see `AssessorClient.wait_for_job`."""
        watch = Watch(progress, timeout_s)
        while True:
            job = await self.get_job(job_id)
            wait_s = watch.look(job)
            if wait_s is None:
                return job
            await asyncio.sleep(wait_s)

    async def cancel_job(self, job_id: str) -> JobInfo:
        """Return a job that is being cancelled, or has ended; what it stored stays."""
        return await self._run(jobs.cancel_job(job_id))

    async def plan(
        self,
        assessment_id: str,
        *,
        batch_size: int | None = None,
        method: str | None = None,
        threshold: float | str | None = None,
        drop_last: bool = False,
        **options: Any,
    ) -> Plan:
        """Return the plan for what has come in."""
        answer = await self._run(
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
        made = await self.wait_for_job(answer.id)
        return await self._run(jobs.plan_of_job(made.id))

    async def get_assessment(self, assessment_id: str) -> AssessmentInfo:
        """Return an assessment with the shards that have come in."""
        return await self._run(calls.get_assessment(assessment_id))

    async def list_assessments(self) -> AsyncIterator[AssessmentInfo]:
        """Yield all assessments, newest first, fetching page after page."""
        cursor: str | None = None
        while True:
            page, cursor = await self._run(calls.list_assessments(cursor))
            for info in page:
                yield info
            if cursor is None:
                return

    async def delete_assessment(self, assessment_id: str) -> None:
        """Remove an assessment and all that was stored for it."""
        await self._run(calls.delete_assessment(assessment_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where!r})"

    async def _run(self, call: Call[T]) -> T:
        steps = calls.exchange(call, where=self._where, backoff=self._backoff)
        step = next(steps)
        while True:
            response = None
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            else:
                response = await self._send(step)
            try:
                step = steps.send(response)
            except StopIteration as end:
                answer: T = end.value
                return answer

    async def _send(self, request: Request) -> Response:
        body = request.body
        # a digest is one pass over the body, for which the event loop must not stand still
        arguments = request_arguments(request) if body is None else await asyncio.to_thread(request_arguments, request)
        try:
            answer = await self._http.request(**arguments, content=None if body is None else body.pieces())
        except httpx.RequestError as error:
            return as_failure(error)
        return as_response(answer)
