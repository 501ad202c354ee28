"""POST /v1/assess: one shard in, its plan out, nothing kept."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.ingest import ShardReader, format_of, ingest
from app.openapi import (
    PLAN_RESPONSE,
    REQUEST_PROBLEMS,
    SHARD_PROBLEMS,
    problem_responses,
    shard_body,
)
from app.plan_answers import encode_plan, plan_response, wanted_columns
from app.routes.checks import check_batch_sizes, check_method
from app.schemas import AssessQuery, check_query
from app.service import ServiceDep
from assessor import make_plan

router = APIRouter(prefix="/v1", tags=["plans"], dependencies=[Depends(check_query)])


@router.post(
    "/assess",
    summary="Plan one shard",
    responses=PLAN_RESPONSE | problem_responses(*SHARD_PROBLEMS, *REQUEST_PROBLEMS, "bad-setting", "unknown-name"),
    openapi_extra=shard_body(),
)
async def assess_shard(request: Request, query: Annotated[AssessQuery, Query()], service: ServiceDep) -> Response:
    """Answer the plan of the shard in the body, taken as a whole dataset; nothing is stored. Accept: as of a plan."""
    method = "need" if query.method is None else query.method
    check_method(method, query.threshold)
    check_batch_sizes([query.batch_size], service.settings)
    reader = ShardReader(
        batch_sizes=[query.batch_size],
        feature_axis=query.feature_axis,
        nonfinite=query.nonfinite,
        format_name=format_of(request),
        settings=service.settings,
    )
    # Planned in a turn of its own: a long plan holds up no upload that ends.
    profile = await ingest(request, reader, service, lambda ingested: ingested.profile, limiter=service.decoding)

    def plan() -> bytes:
        options = query.make_plan_options()
        made = make_plan(profile, method=method, batch_size=query.batch_size, **options)
        service.metrics.planned(made)
        return encode_plan(made, columns=wanted_columns(request))

    return plan_response(await service.blocking(plan))
