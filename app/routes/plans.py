"""GET /v1/assessments/{id}/plan: a method applied to what has come in."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from app.jobs.board import Board
from app.jobs.planning import ask_for_plan, plan_parts
from app.jobs.schemas import JobState
from app.openapi import PLAN_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.plan_answers import encode_plan, plan_response, wanted_columns
from app.routes.checks import check_method
from app.routes.jobs import told_of
from app.schemas import PlanQuery, check_query
from app.service import ServiceDep

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
    """Answer the plan; another method or threshold needs no second upload. Accept chooses between JSON and Arrow.

    A plan of very many batches is made by a job: 202, and the same call again answers the plan once it is made.
    """
    assessment, made_of, n_rows = await service.blocking(lambda: plan_parts(service, assessment_id))
    spec = {"batch_size": query.batch_size, "method": query.method, **query.make_plan_options()}
    n_batches = -(-n_rows // max(1, query.batch_size or min(assessment.batch_sizes)))
    columns = wanted_columns(request)
    asked = prefer is not None and "respond-async" in [part.strip().lower() for part in prefer.split(",")]
    if asked or n_batches > service.settings.max_plan_batches:
        spec["method"] = spec["method"] or assessment.method  # named or not, it is the same plan
        check_method(spec["method"], query.threshold)
        if columns is not None:
            spec["columns"] = columns
        job = await service.blocking(lambda: ask_for_plan(service, assessment_id, spec, made_of))
        if job.state == "succeeded":
            board = Board(service.store, max_jobs=service.settings.max_jobs)
            made = await service.blocking(lambda: board.result(job.id))
            return plan_response(made or b"")
        response.status_code = 202
        if asked:
            response.headers["Preference-Applied"] = "respond-async"
        return told_of(request, response, job)

    def make_plan() -> bytes:
        return encode_plan(service.plan_stored(assessment_id, **spec), columns=columns)

    return plan_response(await service.blocking(make_plan))
