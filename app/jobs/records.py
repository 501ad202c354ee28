"""A job and what happened to it, as values."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.engine import RowMapping

Kind = Literal["ingest", "plan"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
UNFINISHED: tuple[State, ...] = ("queued", "running")


@dataclass(frozen=True)
class Job:
    """A job without its specification and result.

    Attributes:
        number: orders jobs in time.
        id: names it.
        kind: "ingest" or "plan".
        state: one of `STATES`.
        created_at, ended_at: moments as in `app.times`; None: not yet.
        attempts: how often it was begun.
        shards_done, rows_done, bytes_done: what is stored.
        bytes_coming: of the shard that is being read, not counted in bytes_done.
        shards_total, bytes_total: of the whole job; None: not known.
        problem: a problem document where it failed.
    """

    number: int
    id: str
    kind: Kind
    state: State
    created_at: str
    ended_at: str | None
    attempts: int
    shards_done: int
    shards_total: int | None
    rows_done: int
    bytes_done: int
    bytes_coming: int
    bytes_total: int | None
    problem: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in UNFINISHED

    @classmethod
    def of(cls, row: RowMapping) -> "Job":
        """Return the job of a row."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; its events are numbered from 1."""

    number: int
    name: str
    at: str
    data: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Lease:
    """A job that a worker has in hand.

    Attributes:
        number, id, kind: of the job.
        assessment_id: whose job it is.
        key_id: whose assessment that is; None: no key's.
        fence: the number of the lease: what is written under an older one is refused.
        attempts: how often it was begun, this time included.
        shards_done: what earlier leases stored.
        spec: what is to be done.
    """

    number: int
    id: str
    kind: Kind
    assessment_id: str
    key_id: str | None
    fence: int
    attempts: int
    shards_done: int
    spec: dict[str, Any]


def fingerprint_of(*parts: Any) -> str:
    """Return a digest of JSON values: the same for the same values."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
