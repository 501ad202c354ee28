"""/v1/assessments: create, list, look at and remove assessments."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.openapi import REQUEST_PROBLEMS, problem_responses
from app.routes.checks import check_batch_sizes
from app.schemas import (
    AssessmentPage,
    AssessmentState,
    AssessmentSummary,
    NewAssessment,
    PageQuery,
    check_query,
)
from app.service import ServiceDep
from assessor import Profiler, SampleOrder, methods

router = APIRouter(prefix="/v1/assessments", tags=["assessments"], dependencies=[Depends(check_query)])


@router.post(
    "",
    status_code=201,
    summary="Create an assessment",
    responses=problem_responses(
        *REQUEST_PROBLEMS,
        "bad-setting",
        "unknown-name",
        "malformed-plan",
        "too-many-batch-sizes",
        "batch-size-too-large",
        "too-many-assessments",
        "json-too-large",
        "unsupported-media-type",
    ),
)
async def create_assessment(body: NewAssessment, response: Response, service: ServiceDep) -> AssessmentState:
    """Create an assessment; shards then come with PUT, in any order and from many machines."""
    check_batch_sizes(body.batch_sizes, service.settings)
    Profiler(batch_sizes=body.batch_sizes, feature_axis=body.feature_axis, nonfinite=body.nonfinite)
    methods.get(body.method)
    order = SampleOrder.from_dict(body.order)
    assessment = await service.blocking(
        lambda: service.store.create_assessment(
            name=body.name,
            batch_sizes=sorted(set(body.batch_sizes)),
            method=body.method,
            feature_axis=body.feature_axis,
            nonfinite=body.nonfinite,
            order=order.to_dict(),
        )
    )
    response.headers["Location"] = f"/v1/assessments/{assessment.id}"
    return AssessmentState.with_shards(assessment, [])


@router.get(
    "",
    summary="List assessments",
    responses=problem_responses(*REQUEST_PROBLEMS),
)
async def list_assessments(query: Annotated[PageQuery, Query()], service: ServiceDep) -> AssessmentPage:
    """Answer the assessments, newest first, in pages."""
    before = _parse_cursor(query.cursor)
    found = await service.blocking(lambda: service.store.list_assessments(limit=query.limit + 1, before=before))
    page = found[: query.limit]
    return AssessmentPage(
        assessments=[AssessmentSummary.of(assessment) for assessment in page],
        next_cursor=f"n{page[-1].number}" if len(found) > len(page) else None,
    )


@router.get(
    "/{assessment_id}",
    summary="Look at an assessment",
    response_model=AssessmentState,
    responses=problem_responses(*REQUEST_PROBLEMS, "assessment-not-found"),
)
async def get_assessment(assessment_id: str, service: ServiceDep) -> Response:
    """Answer an assessment with its shards and the rows that are missing."""

    def state_as_json() -> str:
        # In the worker thread: there may be 100,000 shards.
        return AssessmentState.with_shards(*service.store.get_assessment(assessment_id)).model_dump_json()

    return Response(await service.blocking(state_as_json), media_type="application/json")


@router.delete(
    "/{assessment_id}",
    status_code=204,
    summary="Remove an assessment",
    responses=problem_responses(*REQUEST_PROBLEMS, "assessment-not-found"),
)
async def delete_assessment(assessment_id: str, service: ServiceDep) -> None:
    """Remove an assessment and all its shards."""
    await service.blocking(lambda: service.store.delete_assessment(assessment_id))
    service.cache.drop(assessment_id)


def _parse_cursor(cursor: str | None) -> int | None:
    return None if cursor is None else int(cursor.removeprefix("n"))
