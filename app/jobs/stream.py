"""A job's events as a stream that ends with the job, or when the service goes down."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from app.jobs.board import Board
from app.jobs.events import HEARTBEAT, encode, encode_progress
from app.jobs.schemas import JobState
from app.problems import ProblemError
from app.service import Service

LOOK_S = 0.5
"""Time between two looks into the database: the job may run in any process."""
HEARTBEAT_S = 15.0
RECONNECT_MS = 2000


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
