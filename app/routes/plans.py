"""GET /v1/assessments/{id}/plan: a method applied to what has come in."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from app.jobs.board import Board
from app.jobs.planning import ask_for_plan, plan_fingerprint
from app.jobs.schemas import JobState
from app.openapi import PLAN_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.routes.checks import check_method
from app.routes.jobs import told_of
from app.schemas import PlanQuery, check_query
from app.service import Service, ServiceDep

router = APIRouter(
    prefix="/v1/assessments/{assessment_id}/plan",
    tags=["plans"],
    dependencies=[Depends(check_query)],
)

_JOB_RESPONSE: dict[int | str, dict[str, Any]] = {
    202: {"model": JobState, "description": "A job makes the plan; Location says where it is looked at"}
}


@router.get(
    "",
    summary="Plan an assessment",
    response_model=None,
    responses=PLAN_RESPONSE
    | _JOB_RESPONSE
    | problem_responses(
        *REQUEST_PROBLEMS, "bad-setting", "unknown-name", "assessment-not-found", "missing-rows", "too-many-jobs"
    ),
)
async def get_plan(
    assessment_id: str,
    query: Annotated[PlanQuery, Query()],
    request: Request,
    response: Response,
    service: ServiceDep,
    prefer: Annotated[
        str | None, Header(description="respond-async (RFC 7240): let a job make the plan, whatever its size.")
    ] = None,
) -> Response | JobState:
    """Answer the plan; another method or threshold needs no second upload.

    A plan of very many batches is made by a job: 202, and the same call again answers the plan once it is made.
    """
    spec = {"batch_size": query.batch_size, "method": query.method, **query.make_plan_options()}
    asked = prefer is not None and "respond-async" in [part.strip().lower() for part in prefer.split(",")]
    made_of, n_batches = await service.blocking(lambda: _size(service, assessment_id, query.batch_size))
    if asked or n_batches > service.settings.max_plan_batches:
        if query.method is not None:
            check_method(query.method, query.threshold)
        job = await service.blocking(lambda: ask_for_plan(service, assessment_id, spec, made_of))
        if job.state == "succeeded":
            board = Board(service.store, max_jobs=service.settings.max_jobs)
            made = await service.blocking(lambda: board.result(job.id))
            return Response(made, media_type="application/json")
        response.status_code = 202
        if asked:
            response.headers["Preference-Applied"] = "respond-async"
        return told_of(request, response, job)

    def plan_as_json() -> str:
        return service.plan_stored(assessment_id, **spec).to_json()

    return Response(await service.blocking(plan_as_json), media_type="application/json")


def _size(service: Service, assessment_id: str, batch_size: int | None) -> tuple[list[list[Any]], int]:
    """Return what the plan is made of and how many batches it will have, at most."""
    made_of, n_rows, batch_sizes = plan_fingerprint(service, assessment_id)
    return made_of, -(-n_rows // max(1, batch_size or min(batch_sizes)))
