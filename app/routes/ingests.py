"""POST /v1/assessments/{id}/shards:ingest: shards from where they lie, by a job."""

from fastapi import APIRouter, Depends, Request, Response

from app.jobs.board import Board
from app.jobs.policy import IngestPolicy
from app.jobs.schemas import JobState, NewIngest
from app.openapi import REQUEST_PROBLEMS, problem_responses
from app.problems import ProblemError
from app.routes.jobs import told_of
from app.schemas import check_query
from app.service import ServiceDep
from assessor.formats import formats

router = APIRouter(prefix="/v1/assessments", tags=["jobs"], dependencies=[Depends(check_query)])


@router.post(
    "/{assessment_id}/shards:ingest",
    status_code=202,
    summary="Read shards from a store",
    responses=problem_responses(
        *REQUEST_PROBLEMS,
        "unknown-name",
        "bad-source-uri",
        "ingest-off",
        "source-not-allowed",
        "too-many-shards",
        "too-many-jobs",
        "assessment-not-found",
        "json-too-large",
        "unsupported-media-type",
    ),
)
async def ingest_shards(
    assessment_id: str, body: NewIngest, request: Request, response: Response, service: ServiceDep
) -> JobState:
    """Ask for a job that reads objects of an S3-compatible store, or files of the server, as shards.

    Only what lies under a prefix that the operator allowed is read. The job goes on where it was when a server dies;
    the same objects asked for again are found to be stored. Asking twice while the job is unfinished gives one job.
    """
    spec = body.make_spec()
    policy = IngestPolicy(service.settings)
    uris = [spec["pattern"]] if "pattern" in spec else [item["uri"] for item in spec["shards"]]
    for uri in uris:
        policy.check(uri)
    for name in {item["format"] for item in spec.get("shards", [spec])} - {None}:
        formats.get(name)
    if len(uris) > service.settings.max_shards:
        raise ProblemError(
            "too-many-shards",
            f"expected at most {service.settings.max_shards} shards in an assessment; got {len(uris)}; send larger "
            "ones or raise NORMGAUGE_MAX_SHARDS",
        )
    board = Board(service.store, max_jobs=service.settings.max_jobs)
    job = await service.blocking(lambda: board.submit(assessment_id, "ingest", spec))
    return told_of(request, response, job)
