"""The tables of jobs and of what happened to them."""

import sqlalchemy as sa

from app.database import METADATA

JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column(
        "assessment",
        sa.Integer,
        sa.ForeignKey("assessments.number", name="fk_jobs_assessment", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32)),
    # The lease: how many there were, whose it is, until when (seconds since 1970 by the database's clock). Of a queued
    # job, the moment before which it is not taken.
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("owner", sa.String(100)),
    sa.Column("lease_until", sa.Float),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("shards_done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("shards_total", sa.Integer),
    sa.Column("rows_done", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_done", sa.BigInteger, nullable=False, server_default="0"),
    # Of the shard that is being read; not counted until it is stored.
    sa.Column("bytes_coming", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_total", sa.BigInteger),
    # Of what it is made: two jobs that would give the same have the same.
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("problem", sa.JSON(none_as_null=True)),
    # Last, since they may be large.
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("result", sa.LargeBinary),
    sa.Index(None, "state", "number"),
    sa.Index(None, "assessment", "fingerprint"),
    sqlite_autoincrement=True,
)

EVENTS = sa.Table(
    "job_events",
    METADATA,
    sa.Column(
        "job",
        sa.Integer,
        sa.ForeignKey("jobs.number", name="fk_job_events_job", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("event", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(20), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
)

JOB_COLUMNS = [column for column in JOBS.c if column.name not in ("spec", "result")]
