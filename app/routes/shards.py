"""PUT /v1/assessments/{id}/shards/{index}: a shard comes in, as a stream, and is kept as its profile."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.ingest import Ingested, ShardReader, format_of, identify, ingest
from app.openapi import REQUEST_PROBLEMS, SHARD_PROBLEMS, problem_responses, shard_body
from app.records import Assessment, Shard, check_same, find_first_row
from app.schemas import ShardQuery, ShardSummary, check_query
from app.service import Service, ServiceDep
from assessor.profile_file import ProfileFile

router = APIRouter(
    prefix="/v1/assessments/{assessment_id}/shards",
    tags=["shards"],
    dependencies=[Depends(check_query)],
)

LARGEST_INDEX = 2**31 - 1

STORED_BEFORE: dict[int | str, dict[str, Any]] = {
    200: {"model": ShardSummary, "description": "The same shard was stored before"}
}


@router.put(
    "/{index}",
    status_code=201,
    summary="Send a shard",
    responses=STORED_BEFORE
    | problem_responses(
        *SHARD_PROBLEMS,
        *REQUEST_PROBLEMS,
        "first-row-needed",
        "assessment-not-found",
        "overlapping-rows",
        "shard-conflict",
    ),
    openapi_extra=shard_body(),
)
async def put_shard(
    assessment_id: str,
    index: Annotated[int, Path(ge=0, le=LARGEST_INDEX, description="Names the shard.")],
    query: Annotated[ShardQuery, Query()],
    request: Request,
    response: Response,
    service: ServiceDep,
) -> ShardSummary:
    """Profile the shard in the body and store the profile; 201 means that it is on the disk.

    Shards may come in any order, in parallel and cut anywhere. The same bytes under the same index are accepted
    again (200), so a client that got no answer sends once more. A shard that is refused leaves nothing behind.
    """
    assessment, shards = await service.blocking(lambda: service.store.get_neighbours(assessment_id, index))
    stored = next((shard for shard in shards if shard.index == index), None)
    if stored is not None:
        shard = await _compare(request, stored, query.first_row, service)
        is_new = False
    else:
        shard, is_new = await _store(request, assessment, shards, index, query.first_row, service)
    response.status_code = 201 if is_new else 200
    return ShardSummary.of(shard)


async def _compare(request: Request, stored: Shard, first_row: int | None, service: Service) -> Shard:
    """Return the stored shard when the body is it again; it is hashed, not profiled."""
    digest = await identify(request, service, like=stored.digest)
    check_same(stored, digest=digest, first_row=first_row)
    return stored


async def _store(
    request: Request,
    assessment: Assessment,
    shards: Sequence[Shard],
    index: int,
    first_row: int | None,
    service: Service,
) -> tuple[Shard, bool]:
    """Return the shard in the body, stored, and whether it is new."""
    settings = service.settings
    reader = ShardReader(
        batch_sizes=assessment.batch_sizes,
        feature_axis=assessment.feature_axis,
        nonfinite=assessment.nonfinite,
        format_name=format_of(request),
        first_row=find_first_row(index, first_row, shards),
        like=shards[0] if shards else None,
        settings=settings,
    )

    def store(ingested: Ingested) -> tuple[Shard, bool]:
        shard = Shard.of(
            ingested.profile,
            index=index,
            digest=ingested.digest,
            size_bytes=ingested.size_bytes,
        )
        profile = ProfileFile(ingested.profile)
        return shard, service.store.add_shard(assessment.id, shard, profile, max_shards=settings.max_shards)

    return await ingest(request, reader, service, store, limiter=service.finishing)
