"""Jobs as workers see them: leased, renewed, written under the lease's fence, ended or given back.

Every write of a job's work checks, in its own transaction, that the job still has this lease. On PostgreSQL workers
skip rows that others have locked, so they never wait for one another; on SQLite writers take turns anyway.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from app.database import ASSESSMENTS
from app.jobs.events import add_event
from app.jobs.records import Lease
from app.jobs.tables import JOBS
from app.problems import problem_document
from app.storage import Store
from app.times import now_text


class LeaseLostError(Exception):
    """The job is another worker's now, or was removed: nothing more may be written for it."""


class Leases:
    """The jobs of all owners; every method blocks.

    Args:
        store: the database.
        owner: a name of this process, for the log.
        lease_s: how long a lease lasts without renewal.
        max_attempts: how often a job is begun.
    """

    def __init__(self, store: Store, *, owner: str, lease_s: float, max_attempts: int) -> None:
        self._store = store
        self._owner = owner
        self._lease_s = lease_s
        self._max_attempts = max_attempts

    def take(self) -> Lease | None:
        """Return the oldest job that no one has in hand, leased; None: there is none."""
        with self._store.engine.connect() as connection:
            # Most often there is none; looking takes no lock.
            if connection.execute(self._free(connection).limit(1)).first() is None:
                return None
        with self._store.writing() as connection:
            free = self._free(connection).order_by(JOBS.c.number).limit(1)
            row = connection.execute(free.with_for_update(skip_locked=True)).mappings().one_or_none()
            if row is None:
                return None
            if row["attempts"] >= self._max_attempts:
                self._abandon(connection, row["number"], row["attempts"])
                return None
            return self._lease(connection, row["number"])

    def renew(self, coming: Mapping[Lease, int]) -> dict[Lease, str]:
        """Renew leases, write how many bytes of their current shards have come, and say what to do about each.

        Returns:
            "go on", "cancel" (the owner asks for it) or "lost" (it is another worker's now, or was removed).
        """
        verdicts = {}
        with self._store.writing() as connection:
            for lease, bytes_coming in sorted(coming.items(), key=lambda item: item[0].number):
                renewed = self._held(lease).values(lease_until=self._until(connection), bytes_coming=bytes_coming)
                asked = connection.execute(renewed.returning(JOBS.c.cancel_requested)).scalar_one_or_none()
                verdicts[lease] = "lost" if asked is None else "cancel" if asked else "go on"
        return verdicts

    def write(
        self, lease: Lease, name: str | None = None, data: Mapping[str, Any] | None = None, **values: Any
    ) -> None:
        """Change a job and write an event, in a transaction of its own.

        Raises:
            LeaseLostError: the job is not this lease's any more; nothing was written.
        """
        with self._store.writing() as connection:
            self._write(connection, lease, name, dict(data or {}), values)

    def writer(self, lease: Lease, name: str, data: Mapping[str, Any], **values: Any) -> Callable[[Connection], None]:
        """Return what does the same in another's transaction: that fails where the lease is lost."""
        return lambda connection: self._write(connection, lease, name, dict(data), values)

    def succeed(self, lease: Lease, result: bytes | None = None, **data: Any) -> None:
        """End a job that is done. Raises LeaseLostError."""
        self.write(lease, "succeeded", data, result=result, **_ended("succeeded"))

    def fail(self, lease: Lease, problem: Mapping[str, Any]) -> None:
        """End a job with a problem document. Raises LeaseLostError."""
        self.write(lease, "failed", {"problem": dict(problem)}, problem=dict(problem), **_ended("failed"))

    def cancel(self, lease: Lease) -> None:
        """End a job that its owner cancelled. Raises LeaseLostError."""
        self.write(lease, "cancelled", **_ended("cancelled"))

    def give_back(self, lease: Lease, *, wait_s: float = 0.0, why: str = "handed_back") -> None:
        """Let another worker go on with a job, or this one after a while.

        Args:
            lease: of the job.
            wait_s: the job is not taken before so many seconds.
            why: the event: "handed_back", which counts as no attempt, or "retry", which does.

        Raises:
            LeaseLostError: the job is not this lease's any more.
        """
        attempts = JOBS.c.attempts - (1 if why == "handed_back" else 0)
        with self._store.writing() as connection:
            until = sa.cast(_now(connection), sa.Float) + wait_s if wait_s else None
            values = {"state": "queued", "owner": None, "lease_until": until, "attempts": attempts, "bytes_coming": 0}
            self._write(connection, lease, why, {"attempts": lease.attempts}, values)

    def _free(self, connection: Connection) -> sa.Select[Any]:
        expired = JOBS.c.lease_until < _now(connection)
        waiting = (JOBS.c.state == "queued") & (JOBS.c.lease_until.is_(None) | expired)
        left = (JOBS.c.state == "running") & expired
        return sa.select(JOBS.c.number, JOBS.c.attempts).where(waiting | left)

    def _lease(self, connection: Connection, number: int) -> Lease:
        values = {
            "state": "running",
            "owner": self._owner,
            "lease_until": self._until(connection),
            "fence": JOBS.c.fence + 1,
            "attempts": JOBS.c.attempts + 1,
            "bytes_coming": 0,
        }
        columns = [JOBS.c[name] for name in ("number", "id", "kind", "fence", "attempts", "shards_done", "spec")]
        update = JOBS.update().where(JOBS.c.number == number).values(values).returning(*columns, JOBS.c.assessment)
        row = dict(connection.execute(update).mappings().one())
        of_it = ASSESSMENTS.c.number == row.pop("assessment")
        whose = connection.execute(sa.select(ASSESSMENTS.c.id, ASSESSMENTS.c.key_id).where(of_it)).mappings().one()
        add_event(connection, number, "started", {"attempts": row["attempts"]})
        return Lease(assessment_id=whose["id"], key_id=whose["key_id"], **row)

    def _abandon(self, connection: Connection, number: int, attempts: int) -> None:
        problem = problem_document(
            "job-abandoned",
            f"expected the job to end within {attempts} attempts; each time the process that had it died; "
            "the servers' logs say of what; ask for it again when that is mended",
        )
        values = {"problem": problem} | _ended("failed") | {"fence": JOBS.c.fence + 1}
        connection.execute(JOBS.update().where(JOBS.c.number == number).values(values))
        add_event(connection, number, "failed", {"problem": problem})

    def _write(
        self, connection: Connection, lease: Lease, name: str | None, data: dict[str, Any], values: dict[str, Any]
    ) -> None:
        # A change of nothing still takes the row's lock and looks at the fence.
        changes = values or {"fence": JOBS.c.fence}
        if connection.execute(self._held(lease).values(changes)).rowcount == 0:
            raise LeaseLostError(lease.id)
        if name is not None:
            add_event(connection, lease.number, name, data)

    def _held(self, lease: Lease) -> sa.Update:
        mine = (JOBS.c.number == lease.number) & (JOBS.c.fence == lease.fence) & (JOBS.c.state == "running")
        return JOBS.update().where(mine)

    def _until(self, connection: Connection) -> sa.ColumnElement[float]:
        return sa.cast(_now(connection), sa.Float) + self._lease_s


def _now(connection: Connection) -> sa.ColumnElement[Any]:
    """Return the database's clock: on PostgreSQL one for all servers; SQLite is on one machine, whose clock is ours."""
    if connection.dialect.name == "sqlite":
        return sa.literal(time.time(), sa.Float)
    # clock_timestamp, not now(): that stands still within a transaction, which may have waited for a lock.
    return sa.func.extract("epoch", sa.func.clock_timestamp())


def _ended(state: str) -> dict[str, Any]:
    return {"state": state, "ended_at": now_text(), "owner": None, "lease_until": None, "bytes_coming": 0}
