"""Plans of very many batches: made by a job, kept as its result."""

from typing import Any

from app.jobs.board import Board
from app.jobs.records import Job, Lease
from app.plan_answers import Columns, encode_plan
from app.records import Assessment
from app.service import Service, check_complete


def plan_parts(service: Service, assessment_id: str) -> tuple[Assessment, list[list[Any]], int]:
    """Return an assessment, what its plans are made of, for JSON, and its rows; blocks.

    Raises:
        ProblemError: no such assessment. GapError: rows are missing.
    """
    assessment, shards = service.store.get_assessment(assessment_id)
    check_complete(shards)
    return assessment, [[shard.first_row, shard.digest] for shard in shards], shards[-1].end_row


def ask_for_plan(service: Service, assessment_id: str, spec: dict[str, Any], made_of: list[list[Any]]) -> Job:
    """Return the job that makes, or has made, this plan; blocks.

    Args:
        service: as the assessment's owner sees it.
        assessment_id: of the assessment.
        spec: the arguments of `Service.plan_stored`; and "columns", "file" or "stream", where it is to be in columns.
        made_of: see `plan_parts`.

    Raises:
        ProblemError: as `Board.submit`.
    """
    return Board(service.store, max_jobs=service.settings.max_jobs).submit(assessment_id, "plan", spec, made_of)


def make_plan_bytes(service: Service, lease: Lease) -> bytes:
    """Return the plan that a job asks for, as it is answered; blocks.

    Raises:
        AssessorError, ProblemError: as `Service.plan_stored`.
    """
    spec = dict(lease.spec)
    asked = spec.pop("columns", None)
    columns: Columns | None = "file" if asked is True else asked  # True: a job from before there were streams
    return encode_plan(service.owned_by(lease.key_id).plan_stored(lease.assessment_id, **spec), columns=columns)
