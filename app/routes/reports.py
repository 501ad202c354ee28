"""GET /v1/assessments/{id}/report: the plans of an assessment as one HTML page of aggregates."""

from importlib import import_module
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Response

from app.headers import PAGE_POLICY
from app.openapi import REPORT_RESPONSE, REQUEST_PROBLEMS, problem_responses
from app.problems import ProblemError
from app.schemas import ReportQuery, check_query
from app.service import ServiceDep

router = APIRouter(
    prefix="/v1/assessments/{assessment_id}/report",
    tags=["plans"],
    dependencies=[Depends(check_query)],
)


@router.get(
    "",
    summary="Report on an assessment",
    response_class=Response,
    responses=REPORT_RESPONSE
    | problem_responses(
        *REQUEST_PROBLEMS,
        "bad-setting",
        "unknown-name",
        "assessment-not-found",
        "missing-rows",
        "report-not-available",
    ),
)
async def get_report(assessment_id: str, query: Annotated[ReportQuery, Query()], service: ServiceDep) -> Response:
    """Answer a self-contained HTML page: the plan for each batch size with its plots, and what drives the scores.

    It holds aggregates only and is at most 1 MB.
    """

    def report() -> str:
        try:
            render = import_module("app.report").render_report
        except ModuleNotFoundError as error:
            raise ProblemError(
                "report-not-available",
                f"expected the packages of the extra report on the server; {error.name} is not installed: "
                "run pip install 'normgauge[report]' there, or take the plan from "
                f"/v1/assessments/{assessment_id}/plan",
            ) from error
        assessed = service.profile_stored(assessment_id)
        sizes = assessed.profile.batch_sizes if query.batch_size is None else [query.batch_size]
        options = query.make_plan_options()
        plans = [assessed.plan(batch_size=size, method=query.method, **options) for size in sizes]
        return str(render(plans, profile=assessed.profile, title=assessed.name))

    # Plots are drawn one at a time; those that wait must not hold the threads that profile shards.
    text = await to_thread.run_sync(report, limiter=service.report_limiter)
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})
