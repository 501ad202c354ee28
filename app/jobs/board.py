"""Jobs as their owner sees them: asked for, looked at, cancelled. What happens to them is written in `leases`."""

import secrets
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from app.database import ASSESSMENTS
from app.jobs.events import add_event
from app.jobs.records import STATES, UNFINISHED, Event, Job, Kind, fingerprint_of
from app.jobs.tables import EVENTS, JOB_COLUMNS, JOBS
from app.problems import ProblemError
from app.storage import Store, check_storable
from app.times import now_text

KEPT = 100
"""Ended jobs that an assessment keeps; older ones go when a new one comes."""


class Board:
    """The jobs of one owner's assessments; every method blocks.

    Args:
        store: the database as that owner sees it.
        max_jobs: most unfinished jobs of an assessment.
    """

    def __init__(self, store: Store, *, max_jobs: int) -> None:
        self._store = store
        self._max_jobs = max_jobs

    def submit(self, assessment_id: str, kind: Kind, spec: dict[str, Any], *made_of: Any) -> Job:
        """Return a new job, queued; or the one that does, or did, the same.

        Args:
            assessment_id: whose job it is.
            kind: what kind.
            spec: what is to be done, for JSON.
            made_of: JSON values that its result depends on beside `spec`: with others it is another job.

        Raises:
            ProblemError: no such assessment, or it has too many jobs ("too-many-jobs").
        """
        fingerprint = fingerprint_of(kind, spec, *made_of)
        with self._store.writing() as connection:
            number = self._assessment_number(connection, assessment_id, lock=True)
            of_it = JOBS.c.assessment == number
            same = sa.select(*JOB_COLUMNS).where(of_it, JOBS.c.fingerprint == fingerprint)
            # An ingest that succeeded may be asked for again: shards stored meanwhile are found to be the same.
            states = (*UNFINISHED, "succeeded") if kind == "plan" else UNFINISHED
            there = connection.execute(same.where(JOBS.c.state.in_(states)).limit(1)).mappings().one_or_none()
            if there is not None:
                return Job.of(there)
            self._check_room(connection, of_it)
            values = {
                "id": secrets.token_hex(8),
                "assessment": number,
                "kind": kind,
                "state": "queued",
                "created_at": now_text(),
                "fingerprint": fingerprint,
                "shards_total": len(spec["shards"]) if spec.get("shards") else None,
                "spec": spec,
            }
            row = connection.execute(JOBS.insert().values(values).returning(*JOB_COLUMNS)).mappings().one()
            job = Job.of(row)
            add_event(connection, job.number, "queued", {"kind": kind})
            return job

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            ProblemError: there is none of this id among the owner's ("job-not-found").
        """
        with self._store.engine.connect() as connection:
            return self._find(connection, job_id)

    def events(self, job_id: str, *, after: int) -> tuple[Job, list[Event]]:
        """Return a job and its events after a number, in order.

        Raises:
            ProblemError: as `get`.
        """
        with self._store.engine.connect() as connection:
            # First the job: of one that is seen as ended, the last event is there.
            job = self._find(connection, job_id)
            query = sa.select(EVENTS).where(EVENTS.c.job == job.number, EVENTS.c.event > after)
            rows = connection.execute(query.order_by(EVENTS.c.event)).mappings()
            return job, [Event(row["event"], row["name"], row["at"], row["data"]) for row in rows]

    def cancel(self, job_id: str) -> Job:
        """Return a job that is cancelled, or will be as soon as its worker sees it; one that has ended stays as it is.

        Raises:
            ProblemError: as `get`.
        """
        with self._store.writing() as connection:
            job = self._find(connection, job_id, lock=True)
            if job.ended:
                return job
            here = JOBS.update().where(JOBS.c.number == job.number)
            if job.state == "running":
                connection.execute(here.values(cancel_requested=True))
            else:
                connection.execute(here.values(state="cancelled", ended_at=now_text(), lease_until=None))
                add_event(connection, job.number, "cancelled", {})
            return self._find(connection, job_id)

    def result(self, job_id: str) -> bytes | None:
        """Return what a job made; None: nothing, or not yet.

        Raises:
            ProblemError: as `get`.
        """
        with self._store.engine.connect() as connection:
            job = self._find(connection, job_id)
            query = sa.select(JOBS.c.result).where(JOBS.c.number == job.number)
            result: bytes | None = connection.execute(query).scalar_one()
            return result

    def _find(self, connection: Connection, job_id: str, *, lock: bool = False) -> Job:
        query = sa.select(*JOB_COLUMNS).join(ASSESSMENTS, ASSESSMENTS.c.number == JOBS.c.assessment)
        query = query.where(JOBS.c.id == job_id, self._store.is_mine())
        if lock:
            query = query.with_for_update(of=JOBS)
        check_storable(job_id, _not_found(job_id))
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _not_found(job_id)
        return Job.of(row)

    def _assessment_number(self, connection: Connection, assessment_id: str, *, lock: bool) -> int:
        return self._store.find_assessment(connection, assessment_id, lock=lock).number

    def _check_room(self, connection: Connection, of_it: sa.ColumnElement[bool]) -> None:
        """Check that an assessment may have one more job, and forget old ones."""
        count = sa.select(sa.func.count()).where(of_it, JOBS.c.state.in_(UNFINISHED))
        if connection.execute(count).scalar_one() >= self._max_jobs:
            raise ProblemError(
                "too-many-jobs",
                f"expected at most {self._max_jobs} unfinished jobs of an assessment; got one more; wait for one of "
                "them, cancel one, or raise NORMGAUGE_MAX_JOBS",
                headers={"Retry-After": "5"},
            )
        ended = sa.select(JOBS.c.number).where(of_it, JOBS.c.state.not_in(UNFINISHED))
        old = ended.order_by(JOBS.c.number.desc()).offset(KEPT - 1)
        connection.execute(JOBS.delete().where(JOBS.c.number.in_(connection.execute(old).scalars().all())))


def _not_found(job_id: str) -> ProblemError:
    return ProblemError(
        "job-not-found",
        f"expected the id of a job; got {job_id!r:.80}, which does not exist or went with its assessment; "
        "the answer that made a job names it in Location",
    )


def count_states(store: Store) -> dict[str, int]:
    """Return how many jobs of all owners are in each state; blocks."""
    query = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
    with store.engine.connect() as connection:
        counts = {row[0]: row[1] for row in connection.execute(query)}
    return {state: counts.get(state, 0) for state in STATES}
