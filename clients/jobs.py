"""The service's jobs: asked for, looked at until they end, cancelled. Pure values, as in `clients.calls`."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from assessor import Plan
from clients.calls import Call, Request, assessment_path, json_body, read_plan
from clients.errors import JobCancelledError, service_error
from clients.uploading import Shard

FIRST_LOOK_S = 0.1
LAST_LOOK_S = 2.0
_ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class JobInfo:
    """A job of the service.

    Attributes:
        id: names it in every other call.
        kind: "ingest" or "plan".
        state: "queued", "running", "succeeded", "failed" or "cancelled".
        attempts: how often it was begun.
        shards_done, rows: what is stored.
        size_bytes: bytes read, those of the current shard among them.
        shards_total, total_bytes: of the whole job; None: not known.
        problem: the problem document where it failed.
    """

    id: str
    kind: str
    state: str
    attempts: int
    shards_done: int
    shards_total: int | None
    rows: int
    size_bytes: int
    total_bytes: int | None
    problem: Mapping[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in _ENDED

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "JobInfo":
        """Return the job that the service's JSON describes."""
        progress = data["progress"]
        return cls(
            id=str(data["id"]),
            kind=str(data["kind"]),
            state=str(data["state"]),
            attempts=int(data["attempts"]),
            shards_done=int(progress["shards_done"]),
            shards_total=progress["shards_total"],
            rows=int(progress["rows"]),
            size_bytes=int(progress["bytes"]),
            total_bytes=progress["bytes_total"],
            problem=data["problem"],
        )


class Watch:
    """Decides, each time a job was looked at, when to look again.

    Args:
        progress: called with the job each time something has changed.
        timeout_s: longest time to wait; None: as long as it takes.
    """

    def __init__(self, progress: Callable[[JobInfo], None] | None, timeout_s: float | None) -> None:
        self._progress = progress
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._wait_s = FIRST_LOOK_S
        self._seen: JobInfo | None = None

    def look(self, job: JobInfo) -> float | None:
        """Return the seconds until the next look; None: the job has succeeded.

        Raises:
            ServiceError: it failed; the class is that of its problem.
            JobCancelledError: it was cancelled.
            TimeoutError: it takes longer than `timeout_s`; it goes on at the service.
        """
        changed = job != self._seen
        if changed and self._progress is not None:
            self._progress(job)
        self._seen = job
        if job.problem is not None:
            raise service_error(int(job.problem["status"]), job.problem)
        if job.state == "cancelled":
            raise JobCancelledError(f"expected job {job.id} to end; it was cancelled after {job.shards_done} shards")
        if job.ended:
            return None
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeoutError(
                f"expected job {job.id} to end within {self._timeout_s:g} s; it is {job.state}: wait for it again, or "
                "cancel it"
            )
        wait_s, self._wait_s = self._wait_s, min(LAST_LOOK_S, 1.5 * self._wait_s)
        return wait_s


def ingest(
    assessment_id: str, uris: str | Iterable[str | Shard], *, first_index: int, first_row: int | None
) -> Call[JobInfo]:
    """Return the call for a job that stores objects as shards.

    Raises:
        ValueError: no URIs; or a `Shard` with labels, which an object holds itself.
    """
    body: dict[str, Any]
    if isinstance(uris, str):
        body = {"pattern": uris, "first_index": first_index, "first_row": first_row}
    else:
        if not isinstance(uris, Iterable):
            raise ValueError(f"expected a pattern, or URIs in their order; got {type(uris).__name__}")
        shards = [_as_object(item) for item in uris]
        if shards:
            shards[0] = {"index": first_index, "first_row": first_row} | shards[0]
        body = {"shards": shards}
    path = f"{assessment_path(assessment_id)}/shards:ingest"
    # Asked for twice, it is one job, or one that finds everything stored.
    return Call(Request("POST", path, body=json_body(body), idempotent=True), read_job)


def get_job(job_id: str) -> Call[JobInfo]:
    """Return the call for a job."""
    return Call(Request("GET", _job_path(job_id)), read_job)


def cancel_job(job_id: str) -> Call[JobInfo]:
    """Return the call that cancels a job."""
    return Call(Request("DELETE", _job_path(job_id), idempotent=True), read_job)


def plan_of_job(job_id: str) -> Call[Plan]:
    """Return the call for the plan that a job made."""
    return Call(Request("GET", f"{_job_path(job_id)}/result"), read_plan)


def read_job(content: bytes) -> JobInfo:
    """Return the job of an answer."""
    return JobInfo.from_dict(json.loads(content))


def read_plan_or_job(content: bytes) -> Plan | JobInfo:
    """Return the plan of an answer, or the job that makes it."""
    # A plan may be large: only what is short can be a job.
    if len(content) < 1 << 16 and (data := json.loads(content)).get("kind") == "plan":
        return JobInfo.from_dict(data)
    return read_plan(content)


def _job_path(job_id: str) -> str:
    if not isinstance(job_id, str) or not job_id.isalnum():
        raise ValueError(f"expected a job's id, as in JobInfo; got {job_id!r}")
    return f"/v1/jobs/{job_id}"


def _as_object(item: str | Shard) -> dict[str, Any]:
    if isinstance(item, str):
        return {"uri": item}
    if not isinstance(item, Shard):
        raise ValueError(f"expected a URI, or a Shard with one; got {type(item).__name__}")
    if item.labels is not None:
        raise ValueError(f"expected no labels with {item.data!r:.200}, which holds its own; got some: leave them out")
    place = {"index": item.index} if item.first_row is None else {"index": item.index, "first_row": item.first_row}
    return {"uri": str(item.data)} | place
