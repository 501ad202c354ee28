"""GET /v1/assessments/{id}/plan: a method applied to what has come in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.openapi import PLAN_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.schemas import PlanQuery, check_query
from app.service import ServiceDep

router = APIRouter(
    prefix="/v1/assessments/{assessment_id}/plan",
    tags=["plans"],
    dependencies=[Depends(check_query)],
)


@router.get(
    "",
    summary="Plan an assessment",
    responses=PLAN_RESPONSE
    | problem_responses(*REQUEST_PROBLEMS, "bad-setting", "unknown-name", "assessment-not-found", "missing-rows"),
)
async def get_plan(assessment_id: str, query: Annotated[PlanQuery, Query()], service: ServiceDep) -> Response:
    """Answer the plan; another method or threshold needs no second upload."""

    def plan_as_json() -> str:
        return service.plan_stored(
            assessment_id,
            batch_size=query.batch_size,
            method=query.method,
            **query.make_plan_options(),
        ).to_json()

    return Response(await service.blocking(plan_as_json), media_type="application/json")
