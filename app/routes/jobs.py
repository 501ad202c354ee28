"""/v1/jobs/{id}: state and progress, events, result, cancelling."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from app.auth.access import caller_of
from app.jobs.board import Board
from app.jobs.records import Job
from app.jobs.schemas import JobState
from app.jobs.stream import EVENT_STREAM, EventStreamResponse, stream
from app.openapi import PLAN_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.plan_answers import plan_response
from app.problems import ProblemError
from app.schemas import check_query
from app.service import ServiceDep

RETRY_AFTER_S = 1

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"], dependencies=[Depends(check_query)])

_EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One event of the stream, by the fields that it is sent in; its data are a JSON object as text.",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["event", "data"],
}
_EVENTS_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events; each with an id, a name and JSON data, progress without an id",
        "content": {EVENT_STREAM: {"schema": _EVENT_SCHEMA}},
    },
    204: {"description": "The job has ended and its last event is Last-Event-ID: there is nothing to wait for"},
}


def told_of(request: Request, response: Response, job: Job) -> JobState:
    """Return a job that was just asked for, wake this process's workers, and say where it is looked at."""
    request.app.state.runner.wake()
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return JobState.of(job)


def _board(service: ServiceDep) -> Board:
    return Board(service.store, max_jobs=service.settings.max_jobs)


BoardDep = Annotated[Board, Depends(_board)]


@router.get("", summary="Look at a job", responses=problem_responses(*REQUEST_PROBLEMS, "job-not-found"))
async def get_job(job_id: str, response: Response, service: ServiceDep, board: BoardDep) -> JobState:
    """Answer a job's state and progress; Retry-After says when to look again, while it is unfinished."""
    job = await service.blocking(lambda: board.get(job_id))
    if not job.ended:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return JobState.of(job)


@router.delete("", summary="Cancel a job", responses=problem_responses(*REQUEST_PROBLEMS, "job-not-found"))
async def cancel_job(job_id: str, service: ServiceDep, board: BoardDep) -> JobState:
    """Cancel a job and answer it: at once where it waits, within seconds where it runs; what it stored stays.

    A job that has ended stays as it is.
    """
    return JobState.of(await service.blocking(lambda: board.cancel(job_id)))


@router.get(
    "/events",
    summary="Follow a job",
    response_class=Response,
    responses=_EVENTS_RESPONSE | problem_responses(*REQUEST_PROBLEMS, "job-not-found", "too-many-event-streams"),
)
async def get_events(
    job_id: str,
    request: Request,
    service: ServiceDep,
    board: BoardDep,
    last_event_id: Annotated[
        str | None,
        Header(
            description="The id of the last event that came; the stream goes on after it.",
            json_schema_extra={"pattern": "^[0-9]{0,9}$"},
        ),
    ] = None,
) -> Response:
    """Answer what happened and what happens to a job, as server-sent events, until it ends."""
    text = last_event_id or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ProblemError(
            "invalid-request",
            f"expected the id of an event of this job as Last-Event-ID; got {text!r:.80}; leave it out to begin with "
            "the first",
        )
    job, events = await service.blocking(lambda: board.events(job_id, after=int(text)))
    if job.ended and not events:
        return Response(status_code=204)
    pieces = stream(service, board, job_id, after=int(text))
    return EventStreamResponse(pieces, streams=request.app.state.event_streams, key_id=caller_of(request).key_id)


@router.get(
    "/result",
    summary="Take what a job made",
    response_class=Response,
    responses=PLAN_RESPONSE | problem_responses(*REQUEST_PROBLEMS, "job-not-found", "no-result"),
)
async def get_result(job_id: str, service: ServiceDep, board: BoardDep) -> Response:
    """Answer the plan that a job made, in the form that was accepted where it was asked for."""
    result = await service.blocking(lambda: board.result(job_id))
    if result is None:
        raise ProblemError(
            "no-result",
            f"expected a job that has made a plan; {job_id} has not, or not yet, or makes none: look at "
            f"/v1/jobs/{job_id}",
        )
    return plan_response(result)
