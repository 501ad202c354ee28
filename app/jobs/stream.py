"""A job's events as a stream that ends with the job, or when the service goes down; so many at once for each key."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.jobs.board import Board
from app.jobs.events import HEARTBEAT, encode, encode_progress
from app.jobs.schemas import JobState
from app.problems import ProblemError
from app.service import Service

EVENT_STREAM = "text/event-stream"
LOOK_S = 0.5
"""Time between two looks into the database: the job may run in any process."""
HEARTBEAT_S = 15.0
RECONNECT_MS = 2000
RETRY_AFTER_S = 5


class EventStreams:
    """How many streams each key has open; used in the event loop only.

    A stream that nothing happens on is a request under way for as long as its job: without a limit one key could take
    up all requests that the service works on at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str | None] = Counter()

    def begin(self, key_id: str | None) -> None:
        """Count one more stream of a key; None: of calls without one.

        Raises:
            ProblemError: it is one too many ("too-many-event-streams").
        """
        if self._open[key_id] >= self._most:
            raise ProblemError(
                "too-many-event-streams",
                f"expected at most {self._most} event streams of one key at once; got one more; close one, look at "
                "the job itself instead, or raise NORMGAUGE_MAX_EVENT_STREAMS",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self._open[key_id] += 1

    def end(self, key_id: str | None) -> None:
        """Count one less."""
        self._open[key_id] -= 1
        if not self._open[key_id]:
            del self._open[key_id]


class EventStreamResponse(StreamingResponse):
    """A stream of events that is counted as long as it is sent, however it ends.

    Raises:
        ProblemError: as `EventStreams.begin`, when it is to be sent; nothing has been sent then.
    """

    def __init__(self, events: AsyncIterator[bytes], *, streams: EventStreams, key_id: str | None) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type=EVENT_STREAM, headers=headers)
        self._streams = streams
        self._key_id = key_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self._streams.begin(self._key_id)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.end(self._key_id)


async def stream(service: Service, board: Board, job_id: str, *, after: int) -> AsyncIterator[bytes]:
    """Yield what happened after an event, then what happens, as server-sent events.

    Between two events that are kept, with ids, come `progress` events without: they are not told again.

    Args:
        service: as the job's owner sees it.
        board: of the same owner.
        job_id: of the job; where it is removed, the stream ends.
        after: number of the last event that the client has.
    """
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    told: str | None = None
    silent_s = 0.0
    draining = asyncio.create_task(service.drain.wait_begun())
    try:
        while True:
            try:
                job, events = await service.blocking(partial(board.events, job_id, after=after))
            except ProblemError:
                return
            state = JobState.of(job)
            progress = state.progress.model_dump_json()
            for event in events:
                after = event.number
                yield encode(event, {"job": job_id})
            if not job.ended and progress != told:
                yield encode_progress(state.progress.model_dump())
            if job.ended or draining.done():
                return
            silent_s = 0.0 if events or progress != told else silent_s + LOOK_S
            told = progress
            if silent_s >= HEARTBEAT_S:
                yield HEARTBEAT
                silent_s = 0.0
            await asyncio.wait([draining], timeout=LOOK_S)
    finally:
        draining.cancel()
